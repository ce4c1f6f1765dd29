"""Workers that announce themselves, and those that are gone."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

from shipway.front.registered import (
    DEATHS_WITHIN_S,
    MOST_DEATHS,
    Registered,
    announced_in,
    failing_in,
    progress_file,
)
from shipway.processes import began
from tests.front.workers import announced


def announce(folder, pid: int, **fields: object) -> None:
    starter = fields.get("starter", pid)
    assert isinstance(starter, int)
    said = {
        "pid": pid,
        "began": began(pid),
        "starter": starter,
        "starter_began": began(starter),
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
    workers = [announced(name, "1", pid) for pid, name in enumerate("aab")]
    registered = Registered(workers=tuple(reversed(workers)))
    assert registered.sockets() == {("a", "1"): ["/0", "/1"], ("b", "1"): ["/2"]}


def ended_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_a_dead_worker_keeps_its_place_while_another_is_forked(tmp_path):
    announce(tmp_path, ended_process(), starter=os.getpid())
    [worker] = announced_in(tmp_path)
    assert worker.replaced
    alone = Registered(workers=(worker,))
    assert alone.sockets() == {("cats", "1.0"): [worker.socket]}
    other = replace(worker, replaced=False, socket="/other", pid=1, starter=1)
    assert Registered(workers=(worker, other)).sockets() == {("cats", "1.0"): ["/other"]}


def test_what_a_dead_worker_and_a_dead_starter_left_is_removed(tmp_path):
    announce(tmp_path, ended_process(), starter=ended_process())
    assert announced_in(tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def write_deaths(folder, starter: int, ago_s: list[float], name: str = "cats") -> None:
    deaths = [time.monotonic() - each for each in ago_s]
    said = {"pid": starter, "name": name, "version": "1.0", "deaths": deaths}
    (folder / f"{starter}.deaths").write_text(json.dumps(said))


def test_a_version_fails_if_its_workers_died_too_often_within_a_minute(tmp_path):
    write_deaths(tmp_path, os.getpid(), [1.0] * MOST_DEATHS + [DEATHS_WITHIN_S + 1.0])
    assert failing_in(tmp_path, ()) == frozenset()
    write_deaths(tmp_path, os.getppid(), [2.0])  # of another worker of the same version
    assert failing_in(tmp_path, ()) == {("cats", "1.0")}
    failing = Registered(workers=(announced(),), failing=failing_in(tmp_path, ()))
    assert failing.sockets() == {}


def test_deaths_that_dead_starters_or_half_a_file_tell_do_not_count(tmp_path):
    ended = ended_process()
    write_deaths(tmp_path, ended, [1.0] * 10)
    (tmp_path / "1.deaths").write_text('{"pid": 1')
    (tmp_path / "2.deaths").write_text('{"pid": 1, "deaths": []}')  # of a worker not announced yet
    assert failing_in(tmp_path, ()) == frozenset()
    assert not (tmp_path / f"{ended}.deaths").exists()


def test_each_worker_of_a_version_may_die_as_often(tmp_path):
    write_deaths(tmp_path, os.getpid(), [1.0] * (MOST_DEATHS + 1))
    for pid in (os.getpid(), os.getppid()):
        announce(tmp_path, pid)
    both = announced_in(tmp_path)
    assert failing_in(tmp_path, both[:1]) == {("cats", "1.0")}
    assert failing_in(tmp_path, both) == frozenset()


def test_another_process_with_the_id_of_a_dead_worker_is_not_taken_for_it(tmp_path):
    announce(tmp_path, os.getpid(), began=began(os.getpid()) - 1, starter=os.getppid())
    [worker] = announced_in(tmp_path)
    assert worker.replaced
    announce(tmp_path, os.getpid(), began=1, starter_began=1)
    assert announced_in(tmp_path) == ()
