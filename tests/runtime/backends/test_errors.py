import pytest

from shipway.runtime.backends.errors import DeviceLost, OutOfMemory, device_error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[ONNXRuntimeError] Failed to allocate memory for requested buffer"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
    ],
)
def test_too_little_memory_is_known_by_any_runtimes_text(error):
    assert isinstance(device_error(error), OutOfMemory)


@pytest.mark.parametrize(
    "text", ["CUDA error: an illegal memory access", "device-side assert triggered"]
)
def test_a_lost_device_is_raised_at_once(text):
    with pytest.raises(DeviceLost, match="cannot use the GPU any more"):
        device_error(RuntimeError(text))


@pytest.mark.parametrize("text", ["CUBLAS_STATUS_NOT_SUPPORTED", "shape mismatch"])
def test_any_other_error_is_passed_on(text):
    error = RuntimeError(text)
    assert device_error(error) is error


def test_what_a_backend_says_itself_is_taken_at_its_word():
    with pytest.raises(DeviceLost, match="by the backend"):
        device_error(DeviceLost("said by the backend"))
    full = OutOfMemory("said by the backend")
    assert device_error(full) is full
