"""Where the fuzzers start: whole files, and the hostile ones of tests/hostile, written out.

python -m tests.fuzz.corpus DIRECTORY
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from shipway.artifact.bundle import MANIFEST
from shipway.artifact.digests import SUMS
from tests.fuzz import minimal
from tests.hostile import archives
from tests.hostile.zips import zipped

LARGEST = 100_000
"""Bytes; fuzzers learn little from large files, the bombs among them."""


def write(directory: Path) -> None:
    """A folder of seeds for each fuzzer."""
    with TemporaryDirectory() as folder:
        seeds = {"manifest": manifests(Path(folder)), "archive": mars(Path(folder)), "oip": oip()}
    for name, contents in seeds.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            if len(content) <= LARGEST:
                (directory / name / f"{number:03}").write_bytes(content)


def manifests(folder: Path) -> list[bytes]:
    found = []
    for make in (minimal.tensors, minimal.texts):
        path = make(folder / make.__name__).path
        found += [(path / name).read_bytes() for name in (MANIFEST, SUMS)]
    return found


def mars(folder: Path) -> list[bytes]:
    files = minimal.archive(folder / "mar")
    # The code of an archive is most of it, and of no interest to its reader.
    small = archives.sealed(
        {name: data for name, data in files.items() if not name.endswith(".py")}
    )
    whole = small | archives.sealed(small | {"entry.py": b""})
    return [
        zipped(archives.members(whole)),
        *(make(whole) for name, make in archives.CASES.items() if "bomb" not in name),
    ]


def oip() -> list[bytes]:
    a, b = np.ones((2, 2), np.uint8), np.ones((2, 3), np.float32)
    declared: list[dict[str, object]] = [
        {"name": "a", "datatype": "UINT8", "shape": [2, 2]},
        {"name": "b", "datatype": "FP32", "shape": [2, 3]},
    ]
    arrays: list[np.ndarray] = [a, b]
    in_json = [
        each | {"data": array.tolist()} for each, array in zip(declared, arrays, strict=True)
    ]
    binary = [
        each | {"parameters": {"binary_data_size": array.nbytes}}
        for each, array in zip(declared, arrays, strict=True)
    ]
    text = [{"name": "text", "datatype": "BYTES", "shape": [1]}]
    outputs = {"id": "1", "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    bodies: list[tuple[object, bytes]] = [
        ({"inputs": in_json}, b""),
        ({"inputs": binary} | outputs, a.tobytes() + b.tobytes()),
        ({"inputs": [text[0] | {"parameters": {"binary_data_size": 6}}]}, b"\2\0\0\0hi"),
        ({"inputs": [text[0] | {"data": ["hi"]}]}, b""),
    ]
    found = []
    for header, tail in bodies:
        content = json.dumps(header).encode()
        found.append(len(content).to_bytes(2, "little") + content + tail)
    return found


if __name__ == "__main__":
    write(Path(sys.argv[1]))
