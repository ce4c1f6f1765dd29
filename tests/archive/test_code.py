import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import shipway
from shipway.archive.code import serving_code
from shipway.files import shipped
from shipway.runtime.backends import BACKENDS
from shipway.tasks import TASKS

PACKAGE = Path(shipway.__path__[0])
HANDLERS = sorted(shipped("handlers").glob("*.py"))


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
        "engines/torchserve/generated/__init__.py",
        "engines/torchserve/generated/inference_pb2.py",
        "engines/torchserve/handler.py",
        "engines/torchserve/predictions_call.py",
        "engines/torchserve/starter.py",
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


def modules_of(imports: list[ast.stmt]) -> Iterator[str]:
    for node in imports:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def needed_on_import(start: str) -> set[str]:
    """The files of this package that importing a module of it runs, itself included.

    Worked out anew from the statements at the top of each file, without `serving_code`.
    """
    needed: set[str] = set()
    waiting = [start]
    while waiting:
        module = waiting.pop()
        parts = module.split(".")
        if parts[0] != "shipway" or module in needed:
            continue
        path = PACKAGE.joinpath(*parts[1:])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not file.is_file():  # a name in a module, or a folder without code of its own
            continue
        needed.add(module)
        waiting.append(module.rpartition(".")[0])
        waiting += modules_of(ast.parse(file.read_bytes()).body)
    return needed


def module_of(name: str) -> str:
    return ".".join(("shipway", *Path(name).with_suffix("").parts)).removesuffix(".__init__")


def test_every_module_that_the_carried_code_imports_at_its_top_is_carried_too():
    carried = {module_of(name) for name in names()}
    assert "shipway.engines.torchserve.handler" in carried
    missing = {
        module: sorted(needed_on_import(module) - carried)
        for module in carried
        if needed_on_import(module) - carried
    }
    assert not missing


@pytest.mark.parametrize("file", HANDLERS, ids=lambda file: file.stem)
def test_every_module_that_a_handler_imports_is_carried(file):
    carried = {module_of(name) for name in names(file)}
    imported = set(modules_of(ast.parse(file.read_bytes()).body))
    needed = set().union(*map(needed_on_import, imported))
    assert "shipway.serving.service" in needed
    assert needed <= carried
