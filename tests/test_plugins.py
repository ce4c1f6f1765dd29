import sys
from pathlib import Path

import pytest

from shipway.plugins import PluginError, load_plugins


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    """Forgets what a test imports."""
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


def plugin(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def test_a_plugin_is_imported_from_its_file_once(tmp_path):
    path = plugin(tmp_path, "counted", "import sys\nsys.counted = getattr(sys, 'counted', 0) + 1\n")
    try:
        assert load_plugins(["counted"], tmp_path) == [path]
        assert load_plugins(["counted"], tmp_path) == [path]
        assert sys.counted == 1
    finally:
        del sys.counted


def test_the_same_name_from_another_folder_replaces_the_plugin(tmp_path):
    plugin(tmp_path / "recipe", "placed", "WHERE = 'recipe'\n")
    plugin(tmp_path / "artifact", "placed", "WHERE = 'artifact'\n")
    load_plugins(["placed"], tmp_path / "recipe")
    load_plugins(["placed"], tmp_path / "artifact")
    assert sys.modules["placed"].WHERE == "artifact"


def test_no_bytecode_is_left_beside_a_plugin(tmp_path):
    plugin(tmp_path, "clean", "X = 1\n")
    load_plugins(["clean"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["clean.py"]


def test_a_missing_plugin_is_named_with_the_place_where_it_belongs(tmp_path):
    with pytest.raises(PluginError, match=r"no plugin 'gone'.*gone\.py does not exist"):
        load_plugins(["gone"], tmp_path)


def test_a_plugin_that_fails_is_named_with_its_error_and_leaves_no_module(tmp_path):
    plugin(tmp_path, "broken", "1 / 0\n")
    with pytest.raises(PluginError, match=r"broken\.py cannot be imported: ZeroDivisionError"):
        load_plugins(["broken"], tmp_path)
    assert "broken" not in sys.modules


@pytest.mark.parametrize("name", ["json", "colorsys", "numpy"])
def test_a_plugin_never_takes_the_place_of_another_module(tmp_path, name):
    import numpy  # noqa: F401 — loaded, so that its name is taken

    before = sys.modules.get(name)
    plugin(tmp_path, name, "WRONG = 1\n")
    with pytest.raises(PluginError, match=f"the name of another module, '{name}'"):
        load_plugins([name], tmp_path)
    assert sys.modules.get(name) is before
