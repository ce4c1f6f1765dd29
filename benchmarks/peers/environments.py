"""An environment for each server or client of others, from exact pins, in .peers/."""

import subprocess
import sys
from pathlib import Path

from benchmarks.peers.errors import PeerFailed

FOLDER = Path(".peers")
REQUIREMENTS = Path(__file__).with_name("requirements")
UV = Path(".uv/bin/uv")
MADE_WITHIN_S = 1800.0


def made(name: str, pins: Path | None = None) -> Path:
    """The folder of programs of an environment, which is made if it is missing or out of date.

    `pins` is a lock file, by default that of a server. Raises PeerFailed, saying what uv said.
    """
    pins = pins or requirements(name)
    environment = FOLDER / name
    installed = environment / "installed.txt"
    if not (installed.exists() and installed.read_text() == pins.read_text()):
        uv("venv", "--clear", "--python", sys.executable, str(environment))
        python = str(environment / "bin/python")
        uv("pip", "sync", "--require-hashes", "--python", python, str(pins))
        installed.write_text(pins.read_text())
    return environment.absolute() / "bin"


def requirements(name: str) -> Path:
    return REQUIREMENTS / f"{name}.txt"


def pinned_version(name: str, package: str) -> str:
    """The version of `package` in the environment."""
    for line in requirements(name).read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line.removeprefix(f"{package}==").split()[0]
    raise ValueError(f"{requirements(name)} pins no {package}")


def uv(*arguments: str) -> None:
    try:
        done = subprocess.run(
            [UV, "--quiet", *arguments], capture_output=True, text=True, timeout=MADE_WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerFailed(f"{UV} did not run: {error}") from error
    if done.returncode:
        raise PeerFailed(f"not installed: {done.stderr.strip()[-300:]}")
