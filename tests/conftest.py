"""What many tests share: real photos, an artifact made in seconds, the demo's made in minutes."""

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from filelock import FileLock
from PIL import Image

from shipway.artifact.bundle import Artifact, open_artifact, write_record
from shipway.artifact.digests import write_sums
from shipway.export.pipeline import Exported, export
from shipway.recipe import ImagePreprocessing, TensorPreprocessing
from tests.echo import echo_mars, server  # noqa: F401 — fixtures of every folder

REPOSITORY = Path(__file__).parent.parent
DATA = REPOSITORY / "tests" / "data"
TINY_RECIPE = DATA / "tiny_recipe.py"
PHOTOS = Path(skimage.data.__file__).parent
DEMO_VARIABLE = "SHIPWAY_TEST_DEMO_ARTIFACT"
"""Names an artifact of the demo model that was exported from this very checkout just before."""


LONGEST = ("test_cluster.py", "test_served_model.py", "test_tune.py", "test_commands.py")
REPETITIONS = 2
"""Of a test marked `timing` that fails; no other test is repeated."""


# A shell that starts the tests in the background ignores SIGINT, and `nohup` SIGHUP. So would every
# process that is started here, also those whose answer to these signals is tested.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets pytest-rerunfailures repeat the tests marked `timing`; the longest files come first.

    Processes take whole files in this order; one that takes minutes should not be the last.
    """
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        if item.get_closest_marker("timing"):
            item.add_marker(pytest.mark.flaky(reruns=REPETITIONS, reruns_delay=2))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many repetitions the result took, none included."""
    repeated = terminalreporter.stats.get("rerun", [])
    tests = {report.nodeid for report in repeated}
    terminalreporter.write_line(f"{len(repeated)} repetitions, of {len(tests)} tests.")


class Silent:
    """Steps that nobody watches."""

    def step(self, doing: str) -> "Silent":
        return self

    def note(self, outcome: str) -> None:
        pass

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """The folder `name`, filled by `make` once in a test run, however many processes run tests."""
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent
    folder /= f"shared-{name}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / "made").touch()
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A real export of the tiny network, to ONNX fp32 and int8."""
    techniques = ("torchscript", "torch_export", "onnx_fp32", "onnx_int8")
    folder = made_once(
        tmp_path_factory,
        "tiny",
        lambda out: export(str(TINY_RECIPE), Silent(), out=out, only=techniques),
    )
    artifact = open_artifact(folder / "tiny-1.0")
    return Exported(
        path=artifact.path, manifest=artifact.manifest, certificate=artifact.certificate
    )


@pytest.fixture(scope="session")
def tiny_artifact(tiny: Exported) -> Artifact:
    return open_artifact(tiny.path)


def exported(recipe: str, out: Path) -> Artifact:
    """A recipe of tests/data, exported to one ONNX program alone."""
    return open_artifact(export(str(DATA / recipe), Silent(), out=out, only=("onnx_fp32",)).path)


def exported_once(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The same, once in a test run."""
    folder = made_once(tmp_path_factory, recipe, lambda out: exported(recipe, out))
    (manifest,) = folder.glob("*/manifest.json")
    return open_artifact(manifest.parent)


def retold(artifact: Artifact, folder: Path, **changes: object) -> Artifact:
    """The same programs, with other things said of them in the manifest."""
    shutil.copytree(artifact.path, folder, dirs_exist_ok=True)
    write_record(folder / "manifest.json", artifact.manifest.model_copy(update=changes))
    (folder / "SHA256SUMS").unlink()
    write_sums(folder)
    return open_artifact(folder)


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Texts to four classes, too long ones truncated to 64 tokens."""
    return exported_once("tiny_classifier_recipe.py", tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_embedding(tiny_classifier, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The classifier's logits taken for a vector; too long texts are refused."""
    manifest = tiny_classifier.manifest
    return retold(
        tiny_classifier,
        tmp_path_factory.mktemp("embedding"),
        name="tiny-embedding",
        task="text_embedding",
        labels=(),
        outputs=(manifest.outputs[0].model_copy(update={"name": "embedding"}),),
        preprocessing=manifest.preprocessing.model_copy(update={"too_long": "refuse"}),
    )


@pytest.fixture(scope="session")
def tiny_tensors(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Two inputs with a length of their own, and an output of three axes."""
    return exported_once("tiny_tensors_recipe.py", tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_table(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return exported_once("tiny_table_recipe.py", tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_array(tiny_table, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The table's network for whoever sends tensors: one input, so that it may be a .npy file."""
    return retold(
        tiny_table,
        tmp_path_factory.mktemp("array"),
        name="tiny-array",
        task="tensors",
        labels=(),
        preprocessing=TensorPreprocessing(inputs=tiny_table.manifest.inputs, source="a test"),
    )


@pytest.fixture(scope="session")
def demo_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """EfficientNet-Lite0, by the two techniques of the demo that take seconds; or a given artifact,
    where it was exported from this very checkout just before, as in .ci/run."""
    if given := os.environ.get(DEMO_VARIABLE):
        return open_artifact(REPOSITORY / given)
    folder = made_once(
        tmp_path_factory, "demo", lambda out: export_demo(out, "onnx_fp32", "onnx_int8")
    )
    return open_artifact(folder / "efficientnet_lite0-1.0")


def export_demo(out: Path, *techniques: str) -> Artifact:
    """EfficientNet-Lite0, exported by the command."""
    command = [sys.executable, "-m", "shipway.cli.main", "export", "efficientnet_lite0"]
    command += ["--out", str(out)]
    for name in techniques:
        command += ["--only", name]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return open_artifact(out / "efficientnet_lite0-1.0")


@pytest.fixture(scope="session")
def cat() -> Path:
    return PHOTOS / "chelsea.png"


@pytest.fixture
def spec() -> ImagePreprocessing:
    return ImagePreprocessing(
        height=32,
        width=32,
        crop_fraction=0.875,
        resample="bicubic",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        source="a test",
    )


def encoded(pixels: np.ndarray | Image.Image, format: str = "PNG", **options: object) -> bytes:
    """An image file's bytes."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
