"""Workers that announce themselves, and those that are gone."""

import json
import os
import subprocess
import sys

from shipway.front.registered import Announced, Registered, announced_in, progress_file


def announce(folder, pid: int, **fields: object) -> None:
    said = {
        "pid": pid,
        "name": "cats",
        "version": "1.0",
        "socket": str(folder / f"{pid}.sock"),
        "answer_within_s": 9.0,
    }
    (folder / f"{pid}.json").write_text(json.dumps(said | fields))


def test_workers_that_run_are_found(tmp_path):
    announce(tmp_path, os.getpid(), task="something that a later version adds")
    [worker] = announced_in(tmp_path)
    assert (worker.name, worker.version, worker.answer_within_s) == ("cats", "1.0", 9.0)
    assert progress_file(worker).name == f"{os.getpid()}.progress"


def test_what_dead_workers_left_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    announce(tmp_path, ended.pid)
    for suffix in ("sock", "progress"):
        (tmp_path / f"{ended.pid}.{suffix}").touch()
    assert announced_in(tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_has_ended_and_was_not_waited_for_does_not_run(tmp_path):
    zombie = subprocess.Popen([sys.executable, "-c", "print()"], stdout=subprocess.PIPE)
    assert zombie.stdout is not None and zombie.stdout.read()
    announce(tmp_path, zombie.pid)
    try:
        while announced_in(tmp_path):
            pass
    finally:
        zombie.wait()


def test_an_announcement_that_cannot_be_read_is_passed_over(tmp_path):
    (tmp_path / "1.json").write_text("{")
    (tmp_path / "2.json").write_text('{"pid": 2}')
    assert announced_in(tmp_path) == ()


def test_the_sockets_of_a_version_are_in_one_place():
    workers = [
        Announced(name=name, version="1", pid=pid, socket=f"/{pid}", answer_within_s=1)
        for pid, name in enumerate("aab")
    ]
    registered = Registered(workers=tuple(reversed(workers)))
    assert registered.sockets() == {("a", "1"): ["/0", "/1"], ("b", "1"): ["/2"]}
