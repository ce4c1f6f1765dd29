"""What is sent: given files, or real photos, sentences and numbers from packages that are installed
anyway."""

import importlib.util
import io
import json
import mimetypes
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import NoInput
from benchmarks.plan import Input


def _folder_of(package: str) -> Path:
    """Without importing it, which takes seconds."""
    found = importlib.util.find_spec(package)
    assert found and found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


SCIKIT_IMAGE = _folder_of("skimage") / "data"
SCIKIT_LEARN = _folder_of("sklearn") / "datasets"
PHOTOS = (
    SCIKIT_IMAGE / "chelsea.png",
    SCIKIT_IMAGE / "coffee.png",
    SCIKIT_IMAGE / "rocket.jpg",
    SCIKIT_LEARN / "images/china.jpg",
    SCIKIT_LEARN / "images/flower.jpg",
)
TABLES = ("iris", "wine", "breast_cancer", "diabetes", "digits")
ROWS = 50
"""Of a table, or of numbers for tensors."""
LENGTH = 16
"""Of an axis of a tensor that may have any."""
PROSE = ("iris", "wine_data", "breast_cancer", "diabetes", "twenty_newsgroups", "olivetti_faces")


def jpegs() -> list[bytes]:
    """Photos of 451×300 to 640×427 pixels as JPEG files of 30 to 200 KB."""
    from PIL import Image

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


def from_files(paths: Sequence[Path]) -> tuple[Input, ...]:
    """Each file, and each in a folder, is the body of a request. Raises NoInput."""
    files = [
        file
        for path in paths
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
        if not (path.is_dir() and (file.is_dir() or file.name.startswith(".")))
    ]
    if not files:
        raise NoInput(
            f"There is no file in {', '.join(map(str, paths))}. Name others with --input."
        )
    return tuple(map(_from_file, files))


def _from_file(path: Path) -> Input:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise NoInput(f"{path} cannot be read: {error.strerror}. Name another with --input.") from (
            error
        )
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Input(name=path.name, content_type=kind, body=body)


def photos() -> tuple[Input, ...]:
    return tuple(
        Input(name=path.stem, content_type="image/jpeg", body=body)
        for path, body in zip(PHOTOS, jpegs(), strict=True)
    )


def texts() -> tuple[Input, ...]:
    return tuple(
        Input(name=f"sentence {index}", content_type="text/plain", body=body)
        for index, body in enumerate(sentences())
    )


def for_task(task: str, tensors: Sequence[Mapping[str, Any]]) -> tuple[Input, ...]:
    """What suits a model. `tensors` are its inputs as the Open Inference Protocol describes them.

    Raises NoInput for one that nothing here is for.
    """
    match task:
        case "image_classification":
            return photos()
        case "text_embedding" | "text_classification":
            return texts()
        case "tabular_classification":
            return _as_json("row", _rows(columns=tensors[0]["shape"][-1]))
        case "tensors":
            return _as_json("tensors", _tensors(tensors))
    raise NoInput(f"Nothing here suits a model for {task}. Name files with --input.")


def _as_json(name: str, values: Sequence[object]) -> tuple[Input, ...]:
    return tuple(
        Input(
            name=f"{name} {index}",
            content_type="application/json",
            body=json.dumps(value).encode(),
        )
        for index, value in enumerate(values)
    )


def _rows(columns: int) -> list[list[float]]:
    import sklearn.datasets

    for name in TABLES:
        values = getattr(sklearn.datasets, f"load_{name}")().data
        if values.shape[1] == columns:
            return values[:ROWS].tolist()
    raise NoInput(
        f"No table here has the {columns} columns that this model takes. Name files of rows as "
        "JSON with --input."
    )


def _tensors(specs: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """One row for every input, of the grey values of handwritten digits, 0 to 16."""
    import numpy as np
    from sklearn.datasets import load_digits

    values = load_digits().data
    return [
        {
            each["name"]: np.resize(
                values[row].astype(float if each["datatype"].startswith("FP") else int),
                [1, *(LENGTH if axis < 0 else axis for axis in each["shape"][1:])],
            ).tolist()
            for each in specs
        }
        for row in range(ROWS)
    ]
