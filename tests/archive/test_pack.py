import zipfile

import pytest

from shipway.archive.errors import ArchiveError
from shipway.archive.pack import handler_file, pack
from shipway.registry import UnknownName
from tests.conftest import retold


def test_packing_again_gives_the_same_bytes(mar, tiny_artifact, tmp_path):
    assert pack(tiny_artifact, tmp_path).read_bytes() == mar.read_bytes()
    assert pack(tiny_artifact, tmp_path).read_bytes() == mar.read_bytes()


def test_a_mar_never_replaces_another(tiny_artifact, tmp_path):
    (tmp_path / "tiny-1.0.mar").write_bytes(b"another")
    with pytest.raises(ArchiveError, match="exists with different content"):
        pack(tiny_artifact, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny-1.0.mar"]


def test_only_the_chosen_and_the_portable_program_travel(mar, tiny_artifact):
    with zipfile.ZipFile(mar) as archive:
        programs = {name for name in archive.namelist() if "/programs/" in name}
    manifest = tiny_artifact.manifest
    assert programs == {
        f"artifact/{manifest.programs[name].file}" for name in (manifest.chosen, manifest.fallback)
    }


def test_the_handler_of_the_projects_folder_wins(tiny_artifact, tmp_path):
    own = tmp_path / "handlers/image_classification.py"
    own.parent.mkdir()
    own.write_text("class Own: ...\n")
    packed = pack(tiny_artifact, tmp_path / "store", project=tmp_path)
    with zipfile.ZipFile(packed) as archive:
        assert archive.read("handler.py") == b"class Own: ...\n"


def test_a_task_without_a_handler_of_its_own_gets_the_generic_one(tmp_path):
    assert handler_file("image_classification", tmp_path).name == "image_classification.py"
    assert handler_file("a_plugins_task", tmp_path).name == "generic.py"


def test_a_task_that_nothing_registers_is_refused_with_the_known_ones(tiny_table, tmp_path):
    artifact = retold(tiny_table, tmp_path / "artifact", task="telepathy")
    with pytest.raises(UnknownName, match="no task named 'telepathy'. Known names: .*tensors"):
        pack(artifact, tmp_path)


def test_a_runtime_that_nothing_registers_is_refused_with_the_known_ones(tiny_table, tmp_path):
    programs = {
        name: program.model_copy(update={"runtime": "abacus"})
        for name, program in tiny_table.manifest.programs.items()
    }
    artifact = retold(tiny_table, tmp_path / "artifact", programs=programs)
    with pytest.raises(
        UnknownName, match="no runtime backend named 'abacus'. Known names: .*torch"
    ):
        pack(artifact, tmp_path)
