"""Artifacts are sealed whole, and not over one another."""

import json

import numpy as np
import pytest

from shipway.artifact.bundle import open_artifact
from shipway.artifact.errors import AlreadySealed
from shipway.export.pipeline import export
from shipway.export.sealing import describe_program, seal_again
from shipway.export.techniques import TECHNIQUES
from tests.conftest import TINY_RECIPE, Silent

QUICK = ("onnx_fp32", "onnx_int8")


def test_an_artifact_that_exists_is_not_replaced(tiny, tmp_path):
    with pytest.raises(AlreadySealed, match="--version.*--overwrite"):
        export(str(TINY_RECIPE), Silent(), out=tiny.path.parent)


def timeless(manifest: dict) -> dict:
    """A manifest without what was measured."""
    measured = ("created", "chosen_because", "pareto", "serving", "chosen")
    return {key: value for key, value in manifest.items() if key not in measured}


def test_the_same_export_twice_gives_the_same_bytes_times_aside(tiny, tmp_path):
    again = export(str(TINY_RECIPE), Silent(), out=tmp_path, only=QUICK)
    for name in QUICK:
        file = tiny.manifest.programs[name].file
        assert (again.path / file).read_bytes() == (tiny.path / file).read_bytes(), name
    first, second = (
        timeless(json.loads((each.path / "manifest.json").read_text())) for each in (tiny, again)
    )
    first["programs"] = {name: first["programs"][name] for name in QUICK}
    assert first == second


def test_eight_evaluation_rows_travel_with_eagers_outputs(tiny_artifact):
    inputs = np.load(tiny_artifact.path / "samples" / "pixels.npy")
    outputs = np.load(tiny_artifact.path / "samples" / "logits.npy")
    assert (len(inputs), outputs.shape) == (8, (8, 10))


def test_a_program_is_described_by_its_technique_and_its_file(tmp_path):
    path = tmp_path / "p"
    path.write_bytes(b"12345")
    program = describe_program(TECHNIQUES.get("onnx_int8"), path)
    assert (program.file, program.bytes) == ("programs/onnx_int8.onnx", 5)
    assert (program.runtime, program.precision) == ("onnxruntime", "int8")


def test_a_copy_is_sealed_with_other_records_and_leaves_nothing_else(tiny, tmp_path):
    manifest = tiny.manifest.model_copy(update={"version": "2.0"})
    destination = tmp_path / "tiny-2.0"
    seal_again(tiny.path, destination, manifest, tiny.certificate, 5.0)
    assert open_artifact(destination).manifest.version == "2.0"
    assert list(tmp_path.iterdir()) == [destination]
    with pytest.raises(AlreadySealed):
        seal_again(tiny.path, destination, manifest, tiny.certificate, 5.0)
    assert list(tmp_path.iterdir()) == [destination]
