"""Real photos, sentences and numbers for load tests, from packages that may be installed."""

import importlib.util
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shipway.tasks.base import Example

TABLES = ("iris", "wine", "breast_cancer", "diabetes", "digits")
ROWS = 50
"""The number of requests made from a table, or for tensors."""
LENGTH = 16
"""The size of a tensor's dynamic axis."""
PROSE = ("iris", "wine_data", "breast_cancer", "diabetes", "twenty_newsgroups", "olivetti_faces")


def folder_of(package: str) -> Path | None:
    """The folder of a package, found without importing it; None if it is not installed."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0])


def photo_files() -> list[Path]:
    """Photos of 451×300 to 640×427 pixels; none if scikit-image or scikit-learn is missing."""
    skimage, sklearn = folder_of("skimage"), folder_of("sklearn")
    if skimage is None or sklearn is None:
        return []
    return [
        *(skimage / "data" / name for name in ("chelsea.png", "coffee.png", "rocket.jpg")),
        *(sklearn / "datasets/images" / name for name in ("china.jpg", "flower.jpg")),
    ]


def jpegs() -> list[bytes]:
    """The photos as JPEG files of 30 to 200 KB."""
    from PIL import Image  # Pillow is heavy, and only a load test of images needs it here

    found = []
    for path in photo_files():
        if path.suffix == ".jpg":
            found.append(path.read_bytes())
            continue
        buffer = io.BytesIO()
        Image.open(path).convert("RGB").save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def sentences() -> list[bytes]:
    """Sentences of 4 to 60 words, from scikit-learn's descriptions of its data sets."""
    sklearn = folder_of("sklearn")
    if sklearn is None:
        return []
    texts = " ".join((sklearn / f"datasets/descr/{name}.rst").read_text() for name in PROSE)
    found = re.findall(r"[A-Z][a-z]+(?:[\s,]+[\w'()-]+){3,60}[.?!]", texts)
    return [" ".join(each.split()).encode() for each in dict.fromkeys(found)]


def photos() -> tuple[Example, ...]:
    """Each photo as the body of a request."""
    return tuple(
        Example(name=path.stem, content_type="image/jpeg", body=body)
        for path, body in zip(photo_files(), jpegs(), strict=True)
    )


def texts() -> tuple[Example, ...]:
    """Each sentence as the body of a request."""
    return tuple(
        Example(name=f"sentence {index}", content_type="text/plain", body=body)
        for index, body in enumerate(sentences())
    )


def table_rows(columns: int) -> tuple[Example, ...]:
    """Rows of a table with so many columns; otherwise of one whose columns are repeated or cut."""
    if folder_of("sklearn") is None:
        return ()
    import sklearn.datasets  # sklearn is optional

    tables = [getattr(sklearn.datasets, f"load_{name}")().data[:ROWS] for name in TABLES]
    fitting = (each for each in tables if each.shape[1] == columns)
    chosen = next(fitting, tables[0])
    return _as_json("row", [np.resize(row, columns).tolist() for row in chosen])


def numbers(specs: Sequence[Mapping[str, Any]]) -> tuple[Example, ...]:
    """Requests of one row for each input, made of handwritten digits: grey values from 0 to 16, or
    0 and 1 for an input of whole numbers, which may be ids of a small vocabulary."""
    if folder_of("sklearn") is None:
        return ()
    from sklearn.datasets import load_digits  # sklearn is optional

    values = load_digits().data
    rows = [
        {
            each["name"]: np.resize(
                values[row] if each["datatype"].startswith("FP") else (values[row] > 8).astype(int),
                [1, *(LENGTH if axis < 0 else axis for axis in each["shape"][1:])],
            ).tolist()
            for each in specs
        }
        for row in range(ROWS)
    ]
    return _as_json("tensors", rows)


def _as_json(name: str, values: Sequence[object]) -> tuple[Example, ...]:
    return tuple(
        Example(
            name=f"{name} {index}",
            content_type="application/json",
            body=json.dumps(value).encode(),
        )
        for index, value in enumerate(values)
    )
