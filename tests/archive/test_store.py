import hashlib

import pytest

from shipway.archive.errors import StoreError
from shipway.archive.store import stored


@pytest.fixture
def mar(tmp_path):
    path = tmp_path / "elsewhere" / "model-1.0.mar"
    path.parent.mkdir()
    path.write_bytes(b"an archive")
    return path


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_archive_from_elsewhere_is_copied_in_and_stays(mar, store):
    with stored(mar, store, digest=digest(mar)) as name:
        assert name == "model-1.0.mar"
    assert [file.name for file in store.iterdir()] == ["model-1.0.mar"]
    assert (store / name).read_bytes() == mar.read_bytes()


def test_a_copy_made_for_nothing_is_removed(mar, store):
    with pytest.raises(RuntimeError), stored(mar, store, digest=digest(mar)):
        raise RuntimeError
    assert list(store.iterdir()) == []


def test_an_archive_that_is_in_the_store_stays_there_whatever_happens(mar, store):
    inside = mar.rename(store / mar.name)
    with pytest.raises(RuntimeError), stored(inside, store, digest=digest(inside)):
        raise RuntimeError
    assert inside.exists()


def test_another_file_of_that_name_is_never_overwritten(mar, store):
    (store / mar.name).write_bytes(b"another")
    with (
        pytest.raises(StoreError, match=r"differs from .*model-1\.0\.mar"),
        stored(mar, store, digest=digest(mar)),
    ):
        pass
    assert (store / mar.name).read_bytes() == b"another"


def test_a_name_that_torchserve_would_not_open_is_refused(mar, store):
    odd = mar.rename(mar.with_suffix(".zip"))
    with (
        pytest.raises(StoreError, match=r"must have the suffix \.mar"),
        stored(odd, store, digest=digest(odd)),
    ):
        pass


def test_a_signature_comes_along_and_goes_with_a_copy_made_for_nothing(mar, store):
    (mar.parent / "model-1.0.mar.sig").write_text("a signature")
    with stored(mar, store, digest=digest(mar)):
        assert (store / "model-1.0.mar.sig").read_text() == "a signature"
    for path in store.iterdir():
        path.unlink()
    with pytest.raises(RuntimeError), stored(mar, store, digest=digest(mar)):
        raise RuntimeError
    assert list(store.iterdir()) == []


def test_an_archive_that_changed_since_it_was_checked_does_not_stay_in_the_store(mar, store):
    checked = digest(mar)
    mar.write_bytes(b"another archive")
    with (
        pytest.raises(StoreError, match="changed after it was checked"),
        stored(mar, store, digest=checked),
    ):
        pass
    assert list(store.iterdir()) == []
