"""The manifest reader: any bytes are a manifest or an ArtifactError."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["shipway"]):
    from shipway.artifact.bundle import MANIFEST, open_artifact, read_record
    from shipway.artifact.digests import SUMS, parse_sums, write_sums
    from shipway.artifact.errors import ArtifactError
    from shipway.artifact.manifest import Manifest

FOLDER = TemporaryDirectory()
ARTIFACT = Path(FOLDER.name)


def test_one_input(data: bytes) -> None:
    """Also as SHA256SUMS; and as a whole artifact of these two files, sealed."""
    (ARTIFACT / MANIFEST).write_bytes(data)
    try:
        manifest = read_record(ARTIFACT / MANIFEST, Manifest)
        assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    except ArtifactError:
        pass
    try:
        for name in parse_sums(data, ARTIFACT / SUMS):
            assert (ARTIFACT / name).resolve().is_relative_to(ARTIFACT.resolve())
    except ArtifactError:
        pass
    (ARTIFACT / "certificate.json").write_bytes(data)
    (ARTIFACT / SUMS).unlink(missing_ok=True)
    write_sums(ARTIFACT)
    try:
        open_artifact(ARTIFACT)
    except ArtifactError:
        return
    raise AssertionError("a manifest that is its own certificate was taken for an artifact")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
