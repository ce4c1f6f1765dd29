"""Errors of a device or of a runtime, raised by backends."""

from shipway.errors import ShipwayError


class RuntimeProblem(ShipwayError):
    """The base of the errors of opening and running a program."""


class DeviceUnusable(RuntimeProblem):
    """The host has a GPU, and the runtime cannot use it."""


class OutOfMemory(RuntimeProblem):
    """A run needed more memory than its device has free. Fewer rows may fit."""


class DeviceLost(RuntimeProblem):
    """This process cannot use its GPU any more; a new process can."""


def device_error(error: Exception) -> Exception:
    """OutOfMemory for an error of a run that means it, otherwise the error itself.

    Raises DeviceLost for an error that means that. A backend may raise either itself. Other errors
    are recognised by their texts, since torch and ONNX Runtime share no classes.
    """
    if isinstance(error, DeviceLost):
        raise error
    if isinstance(error, RuntimeProblem):
        return error
    text = str(error)
    if isinstance(error, MemoryError) or any(mark in text.lower() for mark in _NO_MEMORY):
        return OutOfMemory("There was not enough memory for this request. Send fewer rows.")
    if any(mark in text for mark in _LOST) and not any(mark in text for mark in _REFUSED):
        raise DeviceLost(f"This process cannot use the GPU any more: {text}") from error
    return error


_NO_MEMORY = (
    "out of memory",
    "failed to allocate memory",
    "can't allocate memory",
    "bad_alloc",
    "status_alloc_failed",  # cuBLAS and cuDNN
)
_LOST = ("CUDA error", "CUDA failure", "CUBLAS_STATUS", "CUDNN_STATUS", "device-side assert")
# A library that refuses the sizes of a run has computed nothing, and the GPU is as before.
_REFUSED = ("STATUS_NOT_SUPPORTED", "STATUS_INVALID_VALUE", "STATUS_BAD_PARAM")
