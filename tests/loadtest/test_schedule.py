"""How arrivals are handed to clients, in a process with gevent."""

import json
import subprocess
import sys

from tests.conftest import REPOSITORY

PREPARED = """
import json, time, gevent
from shipway.loadtest.schedule import Alarm, ByTheClock, NoMoreRequests, OnDemand
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
start = time.monotonic()
taken = []
def client(schedule, busy_s=0.0):
    while True:
        try:
            moment = schedule.next_start()
        except NoMoreRequests:
            return
        taken.append((moment - start, time.monotonic() - moment))
        gevent.sleep(busy_s)
"""


def run(code: str):
    """What the code leaves in `result`, from a process of its own: gevent stays there."""
    done = subprocess.run(
        [sys.executable, "-c", f"{PREPARED}\n{code}\nprint(json.dumps(result))"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_open_shape_adds_clients_as_arrivals_find_none_idle():
    arrivals, taken, clients = run("""
clients = []
schedule = ByTheClock(OpenLoop(rate=100), start, start + 0.5, lambda: clients.append(gevent.spawn(client, schedule, 0.05)))
gevent.spawn(schedule.run).join()
gevent.joinall(clients)
result = [m - start for m in OpenLoop(rate=100).arrivals(start, start + 0.5)], taken, len(clients)
""")  # noqa: E501
    assert [moment for moment, _ in taken] == arrivals
    assert 3 <= clients < len(arrivals)
    assert all(late_s >= 0 for _, late_s in taken)


def test_an_open_shape_never_has_more_clients_than_it_says_and_others_wait():
    waiting, clients = run("""
clients = []
shape = OpenLoop(rate=200, most_clients=2)
schedule = ByTheClock(shape, start, start + 0.3, lambda: clients.append(gevent.spawn(client, schedule, 5.0)))
gevent.spawn(schedule.run).join()
result = len(schedule.waiting), len(clients)
""")  # noqa: E501
    assert clients == 2 and waiting > 20


def test_what_is_abandoned_counts_as_waiting():
    before, after, all_of_them = run("""
shape = OpenLoop(rate=100)
schedule = ByTheClock(shape, start, start + 60, lambda: None)
gevent.spawn(schedule.run).join(0.2)
before = len(schedule.waiting)
schedule.abandon()
result = before, len(schedule.waiting), len(list(shape.arrivals(start, start + 60)))
""")
    assert 0 < before < after
    assert after >= all_of_them - 1


def test_a_closed_shape_hands_out_a_moment_whenever_a_client_is_free():
    taken = run("""
schedule = OnDemand(ClosedLoop(clients=1), start, start + 0.3)
client(schedule, 0.05)
schedule.abandon()
result = [*taken, list(schedule.waiting)]
""")
    *taken, waiting = taken
    assert 3 <= len(taken) <= 7 and waiting == []


def test_an_alarm_is_never_early():
    late_s = run("""
alarm, result = Alarm(), []
for step in range(1, 30):
    alarm.sleep_until(start + 0.01 * step)
    result.append(time.monotonic() - start - 0.01 * step)
""")
    assert min(late_s) >= 0
