from pathlib import Path

import shipway
from shipway.archive.code import serving_code
from shipway.runtime.backends import BACKENDS
from shipway.tasks import TASKS

PACKAGE = Path(shipway.__path__[0])


def names(*others: Path) -> set[str]:
    return {path.as_posix() for path in serving_code(PACKAGE, *others)}


def test_every_task_and_every_backend_is_carried():
    carried = names()
    assert {f"tasks/{name}.py" for name in TASKS.all()} <= carried
    assert {f"runtime/backends/{name}.py" for name in ("onnxruntime", "openvino", "torch")} <= (
        carried & {f"runtime/backends/{name}.py" for name in BACKENDS.names()}
    )


def test_nothing_that_exports_packs_or_commands_is_carried():
    folders = {name.partition("/")[0] for name in names() if "/" in name}
    assert folders == {
        *("artifact", "engines", "metrics", "payloads", "runtime", "serving", "tasks")
    }
    assert {name for name in names() if name.startswith("engines/")} == {
        "engines/__init__.py",
        "engines/torchserve/__init__.py",
        "engines/torchserve/handler.py",
    }


def test_what_a_handler_or_a_plugin_imports_is_carried_too(tmp_path):
    assert "artifact/samples.py" not in names()
    plugin = tmp_path / "plugin.py"
    plugin.write_text("def later():\n    from shipway.artifact import samples\n")
    assert names(plugin) - names() == {"artifact/samples.py"}


def test_the_technique_in_a_plugin_brings_no_code_that_exports(tmp_path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text("from shipway.export.techniques import register\n")
    assert names(plugin) == names()


def test_imports_for_type_checkers_alone_are_left_out(tmp_path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import shipway.artifact.samples\n"
    )
    assert names(plugin) == names()
