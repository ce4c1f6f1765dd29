"""Whether a GPU is here for the techniques that need one."""

import torch

from shipway.export.techniques.base import Unavailable


def require_cuda() -> None:
    """Raises Unavailable without a device, which it asks for before anything is built."""
    if not torch.cuda.is_available():
        raise Unavailable("no CUDA device is here")


def require_cuda_in_onnx_runtime() -> None:
    """The same, and ONNX Runtime's build must know it: the package is onnxruntime-gpu."""
    require_cuda()
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise Unavailable("ONNX Runtime is here without CUDA (its package is onnxruntime-gpu)")
