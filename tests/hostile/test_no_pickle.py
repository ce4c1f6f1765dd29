"""Nothing that serves unpickles what nobody has verified: by its source, and while it runs."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from shipway.artifact.digests import sha256_of
from tests.conftest import PHOTOS, REPOSITORY, retold
from tests.hostile import payloads, programs
from tests.hostile.watched import FORMATS

WATCHED = Path(__file__).with_name("watched.py")
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
LOADERS = {
    "torch.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.export.load",
    "torch._inductor.aoti_load_package",
    "torch._C._aoti.AOTIModelPackageLoader",
    "np.load",
    "numpy.load",
    "np.fromfile",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "ctypes.CDLL",
}
# The first three open a file that `Artifact.program_path` has verified, as the tests below see.
MAY = {
    ("shipway/runtime/backends/torch_programs.py", "torch.jit.load"),
    ("shipway/runtime/backends/torch_programs.py", "torch.export.load"),
    ("shipway/runtime/backends/torch_programs.py", "torch._C._aoti.AOTIModelPackageLoader"),
    ("shipway/engines/ray/app.py", "np.load"),  # verified samples, with allow_pickle=False
    ("shipway/releases/models_file.py", "yaml.load"),  # by a SafeLoader that refuses a key twice
    # The C library, for a signal at a parent's death.
    ("shipway/engines/torchserve/processes.py", "ctypes.CDLL"),
    # The process itself, for a setting of its memory.
    ("shipway/serving/memory.py", "ctypes.CDLL"),
}


def dangerous(source: str) -> set[str]:
    """The imports and calls in a module that could run what a file holds."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names if each.name.split(".")[0] in UNPICKLERS}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
            found.add(str(node.module))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in RUNNERS | LOADERS or any(
                each.arg in ("allow_pickle", "weights_only")
                and getattr(each.value, "value", None) is not (each.arg == "weights_only")
                for each in node.keywords
            ):
                found.add(name)
    return found


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "torch.load(f)", "np.load(f)", "eval(x)",
     "f(x, weights_only=False)", "f(x, allow_pickle=True)", "import a, dill", "yaml.load(f)"],
)  # fmt: skip
def test_what_could_run_a_file_is_found_in_source(source):
    assert dangerous(source)


def test_no_source_that_an_archive_carries_can_run_a_file_but_by_the_verified_way(mar):
    with zipfile.ZipFile(mar) as archive:
        carried = {
            name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")
        }
    assert len(carried) > 20
    served = carried | {
        str(path.relative_to(REPOSITORY)): path.read_text()
        for folder in ("archive", "engines", "releases")
        for path in (REPOSITORY / "shipway" / folder).rglob("*.py")
    }
    found = {(file, name) for file, source in served.items() for name in dangerous(source)}
    assert found == MAY


@pytest.fixture(scope="module")
def seen(tiny_artifact, tiny_array, tmp_path_factory):
    """What a process did that served one artifact of each format."""
    home = tmp_path_factory.mktemp("watched")
    names = {"onnx": "onnx_fp32", "torchscript": "torchscript", "torch_export": "torch_export"}
    evil = {
        "onnx": payloads.native(),
        "torchscript": payloads.torchscript(),
        "torch_export": programs.exported_with_a_pickle(home),
    }
    for format in FORMATS:
        retold(tiny_artifact, home / format, chosen=names[format], fallback=names[format])
        (home / f"{format}.evil").write_bytes(evil[format])
    (home / "npy").symlink_to(tiny_array.path)
    (home / "photo").symlink_to(PHOTOS / "chelsea.png")
    mark = home / "ran"
    done = subprocess.run(
        [sys.executable, WATCHED, home],
        cwd=REPOSITORY,
        env=os.environ | {payloads.MARK: str(mark), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = json.loads(done.stdout.splitlines()[-1])
    digests = {
        format: sha256_of(home / format / tiny_artifact.manifest.programs[names[format]].file)
        for format in FORMATS
    }
    assert not mark.exists()
    return said | {"digests": digests}


@pytest.mark.parametrize("format", FORMATS)
def test_requests_of_every_kind_are_answered_without_a_pickle_naming_anything(seen, format):
    assert seen[format]["statuses"] == [200, 200, 200]
    assert seen["events"] == []


@pytest.mark.parametrize("format", FORMATS)
def test_a_program_swapped_after_its_artifact_was_opened_reaches_no_loader(seen, format):
    assert seen[format]["swapped"] == "DigestMismatch"
    assert seen[format]["reached"] == []


def test_torch_opens_the_verified_programs_and_no_other_file(seen):
    opened = [each for format in FORMATS for each in seen[format]["opened"]]
    files = {(name, digest) for name, digest, _ in opened if digest}
    assert files == {
        ("torch.jit.load", seen["digests"]["torchscript"]),
        ("torch.export.load", seen["digests"]["torch_export"]),
    }


def test_a_numpy_file_of_objects_is_refused_and_its_neighbour_answered(seen):
    assert seen["npy"] == [200, 400]


def test_a_sealed_torch_export_program_with_a_pickle_in_it_runs_nothing(seen):
    assert seen["torchs_ran"], "torch.export.load alone would run it; else there is no need to ask"
    assert not seen["ours_ran"]
