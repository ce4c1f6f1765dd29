"""A process that has decoded large pictures is no larger for it afterwards."""

import subprocess
import sys

import pytest

from shipway.serving.memory import TRIM_AGAIN_AFTER_S, FreeMemory

DECODE = """
import io, sys
from concurrent.futures import ThreadPoolExecutor
import psutil
from PIL import Image
from shipway.payloads.images import decode_image
from shipway.recipe import ImagePreprocessing
from shipway.serving.memory import return_large_blocks

if sys.argv[1] == "on":
    assert return_large_blocks()
spec = ImagePreprocessing(height=32, width=32, crop_fraction=1.0, resample="bilinear",
                          mean=(0.0,) * 3, std=(1.0,) * 3, source="a test")
file = io.BytesIO()
Image.new("RGBA", (4_400, 4_400), "red").save(file, "WEBP", lossless=True)
small = io.BytesIO()
Image.new("RGB", (64, 64), "red").save(small, "PNG")
decode_image(small.getvalue(), spec)
before = psutil.Process().memory_info().rss
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda _: decode_image(file.getvalue(), spec), range(12)))
    print((psutil.Process().memory_info().rss - before) / 1e6)
"""


def left_mb(setting: str) -> float:
    """What twelve pictures of 19 megapixels, decoded by four threads, leave behind."""
    command = [sys.executable, "-c", DECODE, setting]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_large_pictures_leave_nothing_behind():
    assert left_mb("on") < 40


FRAGMENTED = """
import sys
import psutil
from shipway.serving.memory import FreeMemory, return_large_blocks

return_large_blocks()
free = FreeMemory()
free.look()
process = psutil.Process()
before = process.memory_info().rss
bodies = [bytearray(200_000) for _ in range(2_000)]
kept = bytearray(100_000)  # at the end of the heap
del bodies
if sys.argv[1] == "on":
    free.look()
print((process.memory_info().rss - before) / 1e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a function of glibc")
@pytest.mark.parametrize(("looks", "least", "most"), [("on", -50, 40), ("off", 300, 500)])
def test_what_many_bodies_took_is_returned_although_something_lies_behind_it(looks, least, most):
    command = [sys.executable, "-c", FRAGMENTED, looks]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert least < float(done.stdout) < most


def test_memory_that_is_needed_is_not_looked_through_again_and_again(monkeypatch):
    free = FreeMemory()
    trims: list[int] = []
    free._trim = trims.append
    now = 1000.0
    monkeypatch.setattr("shipway.serving.memory.time.monotonic", lambda: now)
    free.look()
    needed = bytearray(100 * 2**20)
    for at in range(0, len(needed), 4096):
        needed[at] = 1
    for _ in range(3):
        free.look()
    assert len(trims) == 1
    now += TRIM_AGAIN_AFTER_S + 1  # it may be free by now
    for _ in range(3):
        free.look()
    assert len(trims) == 2
