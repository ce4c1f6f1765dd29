"""What the front and commands say to each other."""

import threading
import time

from shipway.front import exchange
from shipway.front.exchange import Exchange, Served

CATS = ("cats", "1.0")


def test_what_is_served_comes_back(tmp_path):
    front, command = Exchange(tmp_path), Exchange(tmp_path)
    assert not command.exists and command.read_served() == Served()
    served = Served(defaults={"cats": "1.0"}, versions=frozenset([CATS, ("dogs", "2 a/b")]))
    front.write_served(served)
    assert command.exists and command.read_served() == served


def test_a_withdrawn_version_is_known_to_the_front_until_the_command_is_done(tmp_path):
    front = Exchange(tmp_path)
    front.write_served(Served(versions=frozenset([CATS])))
    seen = []

    def follow() -> None:
        while not front.withdrawn():
            time.sleep(0.001)
        seen.append((front.withdrawn(), front.is_in_a_hurry()))
        front.write_served(Served())

    follower = threading.Thread(target=follow)
    follower.start()
    start = time.monotonic()
    with Exchange(tmp_path).withdraw(*CATS):
        assert front.withdrawn() == {CATS}
    follower.join()
    assert time.monotonic() - start < exchange.FOLLOWS_WITHIN_S
    assert front.withdrawn() == frozenset() and not front.is_in_a_hurry()
    assert seen[0][0] == {CATS}


def test_a_command_waits_for_a_front_that_runs_and_not_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "FOLLOWS_WITHIN_S", 0.2)
    without_front = time.monotonic()
    Exchange(tmp_path).await_default(*CATS)
    with Exchange(tmp_path).withdraw(*CATS):
        pass
    assert time.monotonic() - without_front < 0.1
    Exchange(tmp_path).write_served(Served())
    start = time.monotonic()
    Exchange(tmp_path).await_default(*CATS)
    assert 0.2 <= time.monotonic() - start < 2
    Exchange(tmp_path).write_served(Served(defaults={"cats": "1.0"}))
    start = time.monotonic()
    Exchange(tmp_path).await_default(*CATS)
    assert time.monotonic() - start < 0.1
