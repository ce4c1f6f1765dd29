"""The archive reader: any bytes are an archive or an ArchiveError.

What it takes for one is unpacked as TorchServe does, by the header before each member, and has to
come out as the directory at the end says.
"""

import io
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["shipway", "zipfile"]):
    from shipway.archive.errors import ArchiveError
    from shipway.archive.inspect import inspect_mar
    from tests.hostile.zips import unpacked_by_headers

FOLDER = TemporaryDirectory()
MAR = Path(FOLDER.name) / "fuzzed.mar"


def test_one_input(data: bytes) -> None:
    MAR.write_bytes(data)
    try:
        inspect_mar(MAR)
    except ArchiveError:
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        by_directory = {name: archive.read(name) for name in archive.namelist()}
    assert unpacked_by_headers(data) == by_directory


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
