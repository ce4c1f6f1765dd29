"""What can go wrong between an artifact and its outputs."""

from pathlib import Path

from shipway.errors import ShipwayError


class RuntimeProblem(ShipwayError):
    """The base of everything below."""


class NoProgramFits(RuntimeProblem):
    def __init__(self, name: str, reasons: dict[str, str]) -> None:
        listed = "; ".join(f"{program}: {reason}" for program, reason in reasons.items())
        super().__init__(f"No program of {name} runs on this host. {listed}.")


class BrokenProgram(RuntimeProblem):
    def __init__(self, path: Path, runtime: str, error: Exception) -> None:
        said = " ".join(str(error).split())
        super().__init__(f"{path} is no program that {runtime} opens: {said[:500]}")


class WrongRows(RuntimeProblem):
    """A run gave other than an output for each of its rows: whose they are, nobody knows."""

    def __init__(self, found: list[int], expected: int) -> None:
        super().__init__(f"The program gave outputs of {found} rows for a run of {expected}.")


class DeviceUnusable(RuntimeProblem):
    """The GPU is there, and the runtime cannot use it."""


class OutOfMemory(RuntimeProblem):
    """A run needed more memory than its device has left; fewer rows may fit."""


class DeviceLost(RuntimeProblem):
    """After this error the process cannot use its GPU any more; a new process can."""


def device_error(error: Exception) -> Exception:
    """An error of a run as one of the two above, if it is one; raises DeviceLost at once.

    Told by their texts: torch and ONNX Runtime share no classes.
    """
    text = str(error)
    if isinstance(error, MemoryError) or any(each in text.lower() for each in _NO_MEMORY):
        return OutOfMemory("There was not enough memory for this request. Send fewer rows.")
    if any(each in text for each in _LOST) and not any(each in text for each in _REFUSED):
        raise DeviceLost(f"The GPU cannot be used by this process any more: {text}") from error
    return error


_NO_MEMORY = (
    "out of memory",
    "failed to allocate memory",
    "can't allocate memory",
    "bad_alloc",
    "status_alloc_failed",  # cuBLAS and cuDNN
)
_LOST = ("CUDA error", "CUDA failure", "CUBLAS_STATUS", "CUDNN_STATUS", "device-side assert")
# A library that would not take these sizes has run nothing, and the GPU is as before.
_REFUSED = ("STATUS_NOT_SUPPORTED", "STATUS_INVALID_VALUE", "STATUS_BAD_PARAM")


class BadText(RuntimeProblem):
    """What is given as a text holds something that is no character."""


class TextTooLong(RuntimeProblem):
    """The text has more tokens than the model reads, and the recipe says to refuse such."""


class BadImage(RuntimeProblem):
    """The bytes are an image of a kind that is accepted, but a broken one."""


class NotAnImage(RuntimeProblem):
    """The bytes are no image of a kind that is accepted."""


class ImageTooLarge(RuntimeProblem):
    """The image has more pixels than one request may cost."""
