"""Which archive a version may be registered from. test_rollout.py has the comparison."""

import hashlib
from pathlib import Path

import pytest

from shipway.archive.errors import StoreError
from shipway.releases.history import Release, Version
from shipway.releases.proof import check_archive, check_same_archive


def version_of(content: bytes) -> Version:
    return Version(
        mar="echo-1.mar",
        digest=hashlib.sha256(content).hexdigest(),
        batch_size=4,
        max_batch_delay_ms=0,
        workers=1,
    )


def test_an_archive_that_is_missing_or_another_is_named_with_what_to_do(tmp_path: Path) -> None:
    one = version_of(b"one")
    with pytest.raises(StoreError, match=r"echo-1\.mar is missing\. Restore .*shipway register"):
        check_archive(tmp_path, "echo", "1", one)
    (tmp_path / "echo-1.mar").write_bytes(b"another")
    with pytest.raises(StoreError, match="is not the file that was registered"):
        check_archive(tmp_path, "echo", "1", one)
    (tmp_path / "echo-1.mar").write_bytes(b"one")
    check_archive(tmp_path, "echo", "1", one)


def test_a_recorded_version_keeps_its_archive() -> None:
    one, another = version_of(b"one"), version_of(b"another")
    release = Release(versions={"1": one}, default="1")
    check_same_archive("echo", "1", one, release)
    check_same_archive("echo", "2", another, release)
    with pytest.raises(StoreError, match="Versions are immutable: .*shipway unregister echo 1"):
        check_same_archive("echo", "1", another, release)
