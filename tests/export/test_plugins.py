"""A technique that the package has never seen, from a recipe's plugin or from an installed package.

No file of the package is touched: the export finds it, builds it in its child process, compares it
with eager, and seals it.
"""

import shutil
import sys
import textwrap
from pathlib import Path

import pytest

from shipway.artifact.bundle import PLUGINS, open_artifact
from shipway.export.pipeline import export
from shipway.export.rechoose import rechoose
from shipway.export.techniques import TECHNIQUES
from shipway.plugins import PluginError
from shipway.registry import UnknownName
from shipway.runtime.backends import BACKENDS
from tests.conftest import DATA, Silent

TECHNIQUE = """
from pathlib import Path

import torch

from shipway.export.techniques import register
from shipway.export.techniques.base import Job, Technique


def build(job: Job, path: Path) -> None:
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(job.module, job.example_tensors), path)


register(
    Technique(
        name="{name}",
        file="{name}.pt",
        format="torchscript",
        runtime="{runtime}",
        portable=True,
        build=build,
    )
)
"""
BACKEND = """
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.torch import Torch

BACKENDS.register("toy_runtime")(Torch())
"""


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(TECHNIQUES, "_parts", dict(TECHNIQUES.all()))
    monkeypatch.setattr(BACKENDS, "_parts", dict(BACKENDS.all()))


def recipe_in(folder: Path, *, plugins: tuple[str, ...] = (), task: str | None = None) -> Path:
    """The tiny table's recipe in a folder of its own, with other plugins or another task."""
    text = (DATA / "tiny_table_recipe.py").read_text()
    text = text.replace("    top_k=3,", f"    top_k=3,\n    plugins={plugins!r},")
    if task is not None:
        text = text.replace('"tabular_classification"', repr(task))
    folder.mkdir(exist_ok=True)
    path = folder / "toy_recipe.py"
    path.write_text(text)
    return path


def forget(module: str, *parts: str) -> None:
    """As in a process that never imported the plugin."""
    sys.modules.pop(module, None)
    for part in parts:
        TECHNIQUES._parts.pop(part, None)
        BACKENDS._parts.pop(part, None)


def test_a_plugins_technique_is_built_verified_sealed_and_chosen_again_from_the_artifact(tmp_path):
    recipe = recipe_in(tmp_path / "recipes", plugins=("toy_plugin",))
    plugin = recipe.with_name("toy_plugin.py")
    plugin.write_text(BACKEND + TECHNIQUE.format(name="toy_script", runtime="toy_runtime"))
    sealed = export(str(recipe), Silent(), out=tmp_path / "out", only=("toy_script",)).path

    artifact = open_artifact(sealed)
    candidate = artifact.certificate.candidates["toy_script"]
    assert (candidate.passed, candidate.runtime) == (True, "toy_runtime"), candidate.verdict
    assert [each.batch_size for each in candidate.agreement] == [1, 2, 4]
    assert artifact.manifest.chosen == artifact.manifest.fallback == "toy_script"
    assert artifact.manifest.plugins == ("toy_plugin",)
    assert (sealed / PLUGINS / "toy_plugin.py").read_bytes() == plugin.read_bytes()
    assert "toy_script" in (sealed / "report.html").read_text()

    shutil.rmtree(recipe.parent)
    forget("toy_plugin", "toy_script", "toy_runtime")
    again = rechoose(sealed, Silent(), out=tmp_path / "again")
    assert again.manifest.chosen == "toy_script"
    assert sys.modules["toy_plugin"].__file__ == str(sealed / PLUGINS / "toy_plugin.py")
    for path in (sealed, again.path):
        open_artifact(path)  # importing the plugin left nothing beside the sealed files
    sys.modules.pop("toy_plugin")


def test_a_technique_of_an_installed_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    site = tmp_path / "site"
    described = site / "toy_technique-1.0.dist-info"
    described.mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: toy-technique\nVersion: 1.0\n"
    (described / "METADATA").write_text(metadata)
    (site / "toy_technique.py").write_text(TECHNIQUE.format(name="toy_entry", runtime="torch"))
    (described / "entry_points.txt").write_text(
        textwrap.dedent("""
        [shipway.export.techniques]
        toy_entry = toy_technique
        """)
    )
    monkeypatch.syspath_prepend(str(site))
    exported = export(str(recipe_in(tmp_path)), Silent(), out=tmp_path / "out", only=("toy_entry",))
    assert exported.certificate.candidates["toy_entry"].passed
    assert exported.manifest.chosen == "toy_entry"
    sys.modules.pop("toy_technique")


def test_an_unknown_technique_is_refused_before_any_work_with_those_that_are_known(tmp_path):
    recipe = recipe_in(tmp_path)
    with pytest.raises(UnknownName, match=r"no technique named 'abacus'.*onnx_fp32.*openvino_int8"):
        export(str(recipe), Silent(), out=tmp_path / "out", only=("onnx_fp32", "abacus"))
    assert not (tmp_path / "out").exists()


def test_an_unknown_task_is_refused_before_any_work_with_those_that_are_known(tmp_path):
    recipe = recipe_in(tmp_path, task="divination")
    with pytest.raises(UnknownName, match=r"no task named 'divination'.*image_classification"):
        export(str(recipe), Silent(), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_plugin_that_does_not_exist_is_named(tmp_path):
    recipe = recipe_in(tmp_path, plugins=("missing_plugin",))
    with pytest.raises(PluginError, match="missing_plugin"):
        export(str(recipe), Silent(), out=tmp_path / "out")
