"""Checks for techniques that need a GPU."""

import torch

from shipway.export.techniques.base import Unavailable


def require_cuda() -> None:
    """Raises Unavailable if torch finds no CUDA device."""
    if not torch.cuda.is_available():
        raise Unavailable("this host has no CUDA device")


def require_cuda_in_onnx_runtime() -> None:
    """Raises Unavailable without a CUDA device, or if ONNX Runtime was built without CUDA."""
    require_cuda()
    import onnxruntime  # optional: an export may do without ONNX

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise Unavailable(
            "the installed ONNX Runtime has no CUDA support (install onnxruntime-gpu)"
        )
