"""Builds the wheel, installs it into empty environments, and goes from a new recipe to predictions.

    make test-wheel

One environment has the extra `export`: from an empty folder it makes a recipe, exports, packages,
serves, predicts over HTTP and gRPC, and stops. The other has the base alone: it serves the same
archive, and names the extra that it lacks. Versions come from requirements/cpu.lock. The last line
is JSON, as for benchmarks; the exit status is 1 if a target is missed.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shipway.extras import MissingExtra

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".uv/bin/uv"
TECHNIQUES = ("torchscript", "onnx_fp32", "onnx_int8")
"""A sample: what the others need of an environment is no different."""
PORT = re.compile(r"^(\w+_address=https?://[^:]+:|\w+_port=)(\d+)$", re.MULTILINE)


class Environment:
    """A virtual environment with the wheel, and the commands that run in it."""

    def __init__(self, folder: Path, requirement: str) -> None:
        self.folder = folder
        _run([UV, "venv", "--quiet", "--python", sys.executable, folder], cwd=ROOT)
        lock = ROOT / "requirements/cpu.lock"
        command: list[str | Path] = [
            UV,
            "pip",
            "install",
            "--quiet",
            "--python",
            folder,
            "--constraints",
            lock,
        ]
        _run([*command, requirement], cwd=ROOT)
        self.site_packages = next(folder.glob("lib/python*/site-packages"))
        self.files = self.installed_files()

    def installed_files(self) -> set[Path]:
        """What is in site-packages, compiled modules aside."""
        return {
            path
            for path in self.site_packages.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    def run(self, *command: str, cwd: Path, fails: bool = False) -> str:
        """What a command prints, its errors included. It must exit with 0, or with `fails` not."""
        print(f"$ {' '.join(command)}", flush=True)
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return _run(["env", f"PATH={path}", *command], cwd=cwd, fails=fails)

    def use_free_ports(self) -> None:
        """Gives the configuration that comes with Shipway ports that nobody uses."""
        config = self.site_packages / "shipway/_data/config.properties"
        text = PORT.sub(lambda found: f"{found[1]}{_free_port()}", config.read_text())
        # A new file: the installed one may share its disk blocks with uv's cache.
        config.unlink()
        config.write_text(text)


def main() -> int:
    """Prints what is done and what was met; returns the exit status."""
    targets: dict[str, bool] = {}
    # Outside the checkout, whose configuration would be found from a folder below it.
    folder = Path(tempfile.mkdtemp(prefix="wheel-"))
    try:
        _check(folder, targets)
    except (AssertionError, subprocess.CalledProcessError) as error:
        print(f"stopped: {error}")
        targets["ran to the end"] = False
    finally:
        shutil.rmtree(folder)
    met = sum(targets.values())
    print(json.dumps({"met": met, "of": len(targets), "targets": targets}))
    return int(met < len(targets))


def _check(folder: Path, targets: dict[str, bool]) -> None:
    build: list[str | Path] = [
        UV,
        "build",
        "--quiet",
        "--wheel",
        "--offline",
        "--no-build-isolation",
    ]
    _run([*build, "--python", sys.executable, "--out-dir", folder / "dist", ROOT], cwd=ROOT)
    (wheel,) = (folder / "dist").glob("shipway-*.whl")
    names = {Path(name).parts[0] for name in zipfile.ZipFile(wheel).namelist()}
    top_level = sorted(name for name in names if not name.endswith(".dist-info"))
    print(f"{wheel.name}, {wheel.stat().st_size / 1e3:.0f} KB, installs {', '.join(top_level)}")
    targets["the wheel installs the package shipway alone"] = top_level == ["shipway"]

    work = folder / "empty"
    work.mkdir()
    base = Environment(folder / "base", str(wheel))
    base.run("shipway", "new", "my_model", cwd=work)
    said = base.run("shipway", "export", "my_model.py", cwd=work, fails=True)
    needs = str(MissingExtra("`shipway export`", "export"))
    targets["the base alone names the extra that export needs"] = needs in " ".join(said.split())

    full = Environment(folder / "full", f"shipway[export] @ {wheel.as_uri()}")
    only = [word for technique in TECHNIQUES for word in ("--only", technique)]
    full.run("shipway", "export", "my_model.py", *only, cwd=work)
    targets["a new recipe exports"] = (work / "artifacts/my_model-1.0/manifest.json").is_file()
    full.run("shipway", "package", "artifacts/my_model-1.0", cwd=work)
    targets["the artifact is packaged"] = (work / "model_store/my_model-1.0.mar").is_file()
    full.run("python", "-c", SAVE_PHOTO, cwd=work)

    for name, environment in (("the extra export", full), ("the base alone", base)):
        environment.use_free_ports()
        with _served(environment, work):
            answers = [
                json.loads(environment.run("shipway", *PREDICT, *over, cwd=work))["predictions"]
                for over in ([], ["--grpc"])
            ]
            targets[f"{name}: predictions over HTTP and gRPC agree"] = _agree(*answers)
        targets[f"{name}: nothing is left running"] = not (work / ".shipway/server.json").exists()
        written = {path.name for path in environment.installed_files() ^ environment.files}
        targets[f"{name}: nothing is written into site-packages"] = not written
    base.run("shipway", "deploy", "kubernetes", "artifacts/my_model-1.0", cwd=work)
    targets["a Kustomize folder is written from the package's templates"] = (
        work / "kubernetes/base/kustomization.yaml"
    ).is_file()
    files = sorted(path.name for path in work.iterdir())
    print(f"the folder holds {', '.join(files)}")
    targets["the folder holds what was made in it"] = files == [
        *(".shipway", "artifacts", "kubernetes", "model_store", "my_model.py", "photo.png"),
    ]


PREDICT = ("predict", "my_model", "photo.png", "--json")
SAVE_PHOTO = (
    "from shipway.export.photos import example_photos; example_photos(1)[0].save('photo.png')"
)


@contextmanager
def _served(environment: Environment, work: Path) -> Iterator[None]:
    mar = "model_store/my_model-1.0.mar"
    environment.run("shipway", "serve", "--fresh", "--background", "--register", mar, cwd=work)
    try:
        yield
    finally:
        environment.run("shipway", "stop", cwd=work)


def _agree(over_http: list[dict[str, float]], over_grpc: list[dict[str, float]]) -> bool:
    return len(over_http) == 3 and all(
        one["class_id"] == other["class_id"]
        and abs(one["probability"] - other["probability"]) < 1e-5
        for one, other in zip(over_http, over_grpc, strict=True)
    )


def _run(command: Sequence[str | Path], *, cwd: Path, fails: bool = False) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SHIPWAY_")}
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        kept.pop(name, None)
    done = subprocess.run(
        command, cwd=cwd, env=kept, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if (done.returncode != 0) != fails:
        print(done.stdout)
        done.check_returncode()
        raise AssertionError(f"{command} was expected to fail, and did not")
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
