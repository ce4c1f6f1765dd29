"""Real photos and sentences, from packages that are installed anyway."""

import io
import re
from pathlib import Path

import skimage.data
import sklearn.datasets
from PIL import Image

SCIKIT_IMAGE = Path(skimage.data.__file__).parent
SCIKIT_LEARN = Path(sklearn.datasets.__file__).parent
PHOTOS = (
    SCIKIT_IMAGE / "chelsea.png",
    SCIKIT_IMAGE / "coffee.png",
    SCIKIT_IMAGE / "rocket.jpg",
    SCIKIT_LEARN / "images/china.jpg",
    SCIKIT_LEARN / "images/flower.jpg",
)
PROSE = ("iris", "wine_data", "breast_cancer", "diabetes", "twenty_newsgroups", "olivetti_faces")


def jpegs() -> list[bytes]:
    """Photos of 451×300 to 640×427 pixels as JPEG files of 30 to 200 KB."""
    found = []
    for path in PHOTOS:
        if path.suffix == ".jpg":
            found.append(path.read_bytes())
            continue
        buffer = io.BytesIO()
        Image.open(path).convert("RGB").save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def sentences() -> list[bytes]:
    """Of 4 to 60 words, from scikit-learn's descriptions of its data sets."""
    texts = " ".join((SCIKIT_LEARN / f"descr/{name}.rst").read_text() for name in PROSE)
    found = re.findall(r"[A-Z][a-z]+(?:[\s,]+[\w'()-]+){3,60}[.?!]", texts)
    return [" ".join(each.split()).encode() for each in dict.fromkeys(found)]
