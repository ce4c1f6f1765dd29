"""`shipway key`, where no server runs."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from shipway.front.keys import hash_of, read_keys
from tests.servers import SHIPWAY, write_config


@pytest.fixture(params=["on"])
def folder(tmp_path, request) -> Path:
    write_config(tmp_path, front=request.param)
    return tmp_path


def key(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SHIPWAY, "key", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )


def test_a_key_is_printed_once_listed_without_it_and_removed(folder):
    added = key(folder, "add", "mobile", "--requests-per-second", "50")
    assert added.returncode == 0 and "cannot be shown again" in added.stderr
    [made] = added.stdout.splitlines()
    [kept] = read_keys(folder / ".shipway" / "keys.json")
    assert kept.sha256 == hash_of(made)
    second = json.loads(key(folder, "add", "web", "--json").stdout)
    assert second["name"] == "web" and second["requests_per_second"] is None
    listed = key(folder, "list")
    assert "mobile │ 50 " in listed.stdout and "web    │ no limit" in listed.stdout
    machine = key(folder, "list", "--json").stdout
    assert [each["name"] for each in json.loads(machine)] == ["mobile", "web"]
    for text in (listed.stdout, machine):
        assert made not in text and kept.sha256 not in text
    assert key(folder, "remove", "mobile").stdout == "removed the key mobile\n"
    assert [each.name for each in read_keys(folder / ".shipway" / "keys.json")] == ["web"]
    assert listed.stderr == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "a b"], "cannot be the name of a key"),
        (["add", "web", "--requests-per-second", "0"], "whole number from 1"),
        (["remove", "web"], "There is no key 'web'"),
    ],
)
def test_a_mistake_is_told_and_changes_nothing(folder, words, said):
    done = key(folder, *words)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and said in done.stderr
    assert not (folder / ".shipway" / "keys.json").exists()


def test_a_broken_file_is_told_by_every_command(folder):
    (folder / ".shipway").mkdir()
    path = folder / ".shipway" / "keys.json"
    path.write_text('{"format": 1, "keys": [')
    for words in (["list"], ["add", "web"], ["remove", "web"]):
        done = key(folder, *words)
        assert done.returncode == 1 and f"error: {path} is not valid JSON" in done.stderr


@pytest.mark.parametrize("folder", ["off"], indirect=True)
def test_without_the_front_the_commands_say_that_keys_are_not_in_force(folder):
    added = key(folder, "add", "web")
    for done in (added, key(folder, "list")):
        assert done.returncode == 0
        assert "Named keys are not in force" in done.stderr and "Set front=on" in done.stderr


def test_without_tokens_the_commands_say_that_everybody_may_ask(tmp_path):
    write_config(tmp_path, front="on", disable_token_authorization="true")
    assert "everybody may ask" in key(tmp_path, "add", "web").stderr
