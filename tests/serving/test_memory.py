"""A process that has decoded large pictures is no larger for it afterwards."""

import subprocess
import sys

import pytest

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
