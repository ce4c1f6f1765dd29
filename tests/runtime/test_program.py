import re

import numpy as np
import pytest

from shipway.registry import UnknownName
from shipway.runtime.errors import BrokenProgram, UnknownFormat
from shipway.runtime.model import Model
from shipway.runtime.program import open_program
from tests.conftest import retold


def changed(artifact, folder, **program):
    """The artifact with other things said of its chosen program."""
    manifest = artifact.manifest
    programs = dict(manifest.programs)
    programs[manifest.chosen] = programs[manifest.chosen].model_copy(update=program)
    return retold(artifact, folder, programs=programs)


def test_a_program_runs_at_any_number_of_rows(tiny_table):
    program = open_program(tiny_table, tiny_table.manifest.chosen, threads=1)
    for rows in (1, 3, 4):
        (logits,) = program.run([np.ones((rows, 5), "float32")])
        assert logits.shape == (rows, 3)


def test_an_unknown_runtime_is_refused_with_the_known_ones(tiny_table, tmp_path):
    artifact = changed(tiny_table, tmp_path / "artifact", runtime="abacus")
    known = "no runtime backend named 'abacus'. Known names: .*onnxruntime, openvino, torch"
    with pytest.raises(UnknownName, match=known):
        open_program(artifact, artifact.manifest.chosen, threads=1)
    with pytest.raises(UnknownName, match=known):
        Model(artifact)


def test_an_unknown_format_is_refused_with_those_that_the_backend_opens(tiny_table, tmp_path):
    artifact = changed(tiny_table, tmp_path / "artifact", runtime="torch")
    says = re.escape(
        "the format 'onnx', which the runtime backend 'torch' does not open. It opens "
        "torchscript, torch_export, aot_inductor."
    )
    with pytest.raises(UnknownFormat, match=says):
        open_program(artifact, artifact.manifest.chosen, threads=1)


def test_a_file_that_its_runtime_cannot_read_is_named(tiny_table, tmp_path):
    artifact = changed(tiny_table, tmp_path / "artifact", runtime="torch", format="torchscript")
    with pytest.raises(BrokenProgram, match="cannot be opened by torch"):
        open_program(artifact, artifact.manifest.chosen, threads=1)
