import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from shipway import registry
from shipway.registry import Registry, UnknownName


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch, request) -> Registry:
    """A registry over a package of three files: two parts in one, one in another, and a helper."""
    package = f"shapes_{request.node.name.partition('[')[0]}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").write_text(
        f"from shipway.registry import Registry\nSHAPES = Registry('shape', {package!r},"
        " apart=('helpers',))\n"
    )
    part = f"from {package} import SHAPES\n"
    (folder / "square.py").write_text(part + "SHAPES.register('square')(4)\n")
    (folder / "round.py").write_text(
        part + "SHAPES.register('circle')(0)\nSHAPES.register('ring')(2)\n"
    )
    (folder / "helpers.py").write_text("raise AssertionError('it holds no part')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return __import__(package).SHAPES


def test_a_part_is_found_by_its_file_and_no_other_is_imported(shapes):
    assert shapes.get("square") == 4
    assert f"{shapes._package}.round" not in sys.modules


def test_a_part_in_a_file_of_several_is_found(shapes):
    assert shapes.get("ring") == 2


def test_all_parts_are_listed_without_the_helpers(shapes):
    assert shapes.all() == {"square": 4, "circle": 0, "ring": 2}


def test_names_come_from_files_without_importing_them(shapes):
    assert shapes.names() == ["round", "square"]
    assert f"{shapes._package}.square" not in sys.modules


def test_an_unknown_name_lists_the_known_parts_and_where_others_come_from(shapes):
    for find in (shapes.get, shapes.check):
        with pytest.raises(UnknownName) as caught:
            find("triangle")
        message = str(caught.value)
        assert message.startswith(
            "There is no shape named 'triangle'. Known names: circle, ring, square."
        )
        assert f"the group {shapes._package!r}" in message


def test_check_accepts_a_part_of_a_file_of_several(shapes):
    shapes.check("ring")


def test_a_part_may_be_registered_by_hand_and_replaced(shapes):
    shapes.register("square")(5)
    assert shapes.get("square") == 5


@pytest.mark.parametrize("value", ["made_elsewhere:PENTAGON", "made_elsewhere"])
def test_a_part_comes_from_an_entry_point_of_an_installed_package(
    shapes, value, tmp_path, monkeypatch
):
    (tmp_path / "made_elsewhere.py").write_text(
        f"import {shapes._package} as shapes\nPENTAGON = 5\n"
        "shapes.SHAPES.register('pentagon')(PENTAGON)\n"
    )
    point = EntryPoint("pentagon", value, shapes._package)

    def installed(group: str, name: str | None = None) -> list[EntryPoint]:
        return [point] if group == point.group and name in (None, point.name) else []

    monkeypatch.setattr(registry, "entry_points", installed)
    monkeypatch.delitem(sys.modules, "made_elsewhere", raising=False)
    assert "pentagon" in shapes.names()
    assert shapes.get("pentagon") == 5


def test_an_entry_point_may_name_an_object_that_registers_nothing(shapes, tmp_path, monkeypatch):
    (tmp_path / "plain_part.py").write_text("HEXAGON = 6\n")
    point = EntryPoint("hexagon", "plain_part:HEXAGON", shapes._package)
    monkeypatch.setattr(registry, "entry_points", lambda group, name=None: [point])
    assert shapes.get("hexagon") == 6


EACH_FILE = """
import inspect
from shipway.registry import Registry

holders, original = set(), Registry.register

def register(self, name):
    modules = (frame.frame.f_globals["__name__"] for frame in inspect.stack(0)[1:])
    holders.add(next(each for each in modules if each != self._package))
    return original(self, name)

Registry.register = register

from shipway.engines import ENGINES
from shipway.export.techniques import TECHNIQUES
from shipway.loadtest.shapes import SHAPES
from shipway.runtime.backends import BACKENDS
from shipway.tasks import TASKS

for registry in (ENGINES, TECHNIQUES, SHAPES, BACKENDS, TASKS):
    registry.all()
    for file in registry._files():
        module = f"{registry._package}.{file}"
        if not {module, f"{module}.{registry._entry}"} & holders:
            print(registry.kind, file)
"""


def test_every_file_beside_the_parts_holds_one_or_is_named_as_a_helper():
    """Or `names` would offer it to users, and `check` would let it pass."""
    done = subprocess.run([sys.executable, "-c", EACH_FILE], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr
