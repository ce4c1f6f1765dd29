"""The file of named keys: what goes in comes back, and nothing else is taken for keys."""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from shipway.front import keys
from shipway.front.keys import (
    KEY_LENGTH,
    Key,
    KeysError,
    KeysFile,
    add_key,
    hash_of,
    read_keys,
    remove_key,
)

A, B = hash_of("a"), hash_of("b")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "state" / "keys.json"


def test_a_key_that_is_added_comes_back_as_its_hash_and_can_be_removed(path):
    assert read_keys(path) == ()
    first, second = add_key(path, "web", 50), add_key(path, "mobile")
    assert first != second and len(first) == len(second) == KEY_LENGTH
    assert first not in path.read_text() and path.stat().st_mode & 0o777 == 0o600
    mobile, web = read_keys(path)
    assert (web.name, web.sha256, web.requests_per_second) == ("web", hash_of(first), 50)
    assert (mobile.name, mobile.sha256, mobile.requests_per_second) == (
        *("mobile", hash_of(second)),
        None,
    )
    with pytest.raises(KeysError, match="There is a key web already"):
        add_key(path, "web")
    remove_key(path, "web")
    assert read_keys(path) == (mobile,)
    with pytest.raises(KeysError, match="no key 'web'. The keys are: mobile"):
        remove_key(path, "web")


def test_without_a_state_directory_there_is_nothing_to_remove(path):
    with pytest.raises(KeysError, match="there are no keys"):
        remove_key(path, "web")
    assert not path.parent.exists()


@pytest.mark.parametrize(
    "name", ["", " ", "a b", ".hidden", "a/b", 'a"b', "a\nb", "a\\b", "é", "a" * 64]
)
def test_a_name_that_could_mean_something_else_is_refused(path, name):
    with pytest.raises(KeysError, match="cannot be the name of a key"):
        add_key(path, name)
    assert not path.exists()


@pytest.mark.parametrize("limit", [0, -1, 1_000_001, 1.5, True, "5"])
def test_a_limit_that_is_no_whole_number_in_range_is_refused(limit):
    with pytest.raises(KeysError, match="Give a whole number from 1 to 1,000,000"):
        Key(name="web", sha256=A, requests_per_second=limit)


def file_with(*entries: object, **others: object) -> str:
    return json.dumps({"format": 1, "keys": entries, **others})


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "not valid JSON"),
        ('{"format": 1, "keys": [{"na', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", '"format": 1 was expected'),
        ('{"format": 2, "keys": []}', '"format": 1 was expected'),
        ('{"format": 1}', 'list of objects was expected as "keys"'),
        (file_with("a"), 'list of objects was expected as "keys"'),
        (file_with(more=1), "unknown field 'more'"),
        (file_with({"name": "a", "sha256": A, "requests_per_minute": 1}), "unknown field"),
        (file_with({"name": "a"}), "has no sha256"),
        (file_with({"sha256": A}), "has no name"),
        (file_with({"name": ["a"], "sha256": A}), "cannot be the name"),
        (file_with({"name": "a", "sha256": "a"}), "not a hash"),
        (file_with({"name": "a", "sha256": A.upper()}), "not a hash"),
        (file_with({"name": "a", "sha256": A, "requests_per_second": 0}), "whole number"),
        (file_with({"name": "a", "sha256": A, "created": 1}), "created"),
        (file_with({"name": "a", "sha256": A}, {"name": "a", "sha256": B}), "have the name a"),
        (file_with({"name": "a", "sha256": A}, {"name": "b", "sha256": A}), "have the sha256"),
        (file_with(*[{"name": "a", "sha256": A}] * 1001), "1000 are allowed"),
    ],
)
def test_a_broken_file_is_refused_by_readers_and_left_alone_by_commands(tmp_path, text, wrong):
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(KeysError, match=wrong) as refused:
        read_keys(path)
    assert str(path) in str(refused.value) and "Correct the file" in str(refused.value)
    for change in (lambda: add_key(path, "new"), lambda: remove_key(path, "a")):
        with pytest.raises(KeysError, match=wrong):
            change()
    assert path.read_text() == text
    file = KeysFile(path)
    assert "no keys are in force" in str(file.look()) and file.keys == ()


def test_bytes_that_are_no_text_and_a_folder_are_refused(tmp_path):
    path = tmp_path / "keys.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(KeysError, match="cannot be read"):
        read_keys(path)
    with pytest.raises(KeysError, match="cannot be read: Is a directory"):
        read_keys(tmp_path)


def test_what_a_person_writes_is_read(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(file_with({"name": "web", "sha256": A}))
    assert read_keys(path) == (Key(name="web", sha256=A),)


def test_a_change_is_followed_and_a_broken_file_leaves_the_last_keys_in_force(path):
    file = KeysFile(path)
    assert file.look() is None and file.keys == ()
    add_key(path, "web")
    assert file.look() is None and [key.name for key in file.keys] == ["web"]
    good = path.read_text()
    path.write_text(good[:-20])
    wrong = file.look()
    assert wrong is not None and "1 keys that were read before are in force" in wrong
    assert file.look() is None, "it is said once"
    assert [key.name for key in file.keys] == ["web"]
    path.write_text(good.replace("web", "app"))
    assert file.look() is None and [key.name for key in file.keys] == ["app"]
    path.unlink()
    assert file.look() is None and file.keys == ()


def test_commands_at_the_same_time_lose_no_key(path):
    names = [f"client-{number}" for number in range(12)]
    with ProcessPoolExecutor(4) as crowd:
        made = list(crowd.map(add_key, [path] * len(names), names))
    assert {key.sha256 for key in read_keys(path)} == {hash_of(key) for key in made}
    assert sorted(each.name for each in path.parent.iterdir()) == ["keys.json", "keys.lock"]


def test_a_command_that_holds_the_lock_is_named(path, monkeypatch):
    monkeypatch.setattr(keys, "LOCKED_WITHIN_S", 0.05)
    path.parent.mkdir()
    with (
        FileLock(path.with_suffix(".lock")),
        pytest.raises(KeysError, match="Another command is changing the keys"),
    ):
        add_key(path, "web")
