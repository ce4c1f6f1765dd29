"""A fault, done to a server under load: what it promises, what is measured, whether they agree."""

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx

from shipway.engines.errors import ModelNotFound, Refused, ServerError
from shipway.engines.torchserve.inference import Explained
from tests.faults.sites import HURT, NEIGHBOUR, ROW, Site
from tests.load import load_on
from tests.servers import until

CLIENTS = 6
"""Of the model that is hurt."""
CLIENTS_BESIDE = 2
BACK_WITHIN_S = 10.0
GIVE_UP_AFTER_S = 150.0
PATIENCE_S = 10.0
"""For the last answers. Who has none by then waits for ever."""
SETTLED_S = 0.5
CLOSE = 1e-6
"""Of a probability, whatever batch the row rode in."""

CUT = "cut"
TURNED_AWAY = "turned away"
NOT_YET = ("NoWorker", "QueueFull", "NoDefaultVersion")


class NotAsPromised(Exception):
    """What a fault did, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an injection saw."""

    since: float = field(default_factory=time.monotonic)
    """When a worker or the server went away; the end of the injection if neither did, or if what it
    took had to be put right."""
    gone: frozenset[int] = frozenset()
    """Workers that it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    name: str
    promise: str
    inject: Callable[[Site], Seen]
    """Raises NotAsPromised, or AssertionError."""
    lost_at_most: int = 0
    """Of the requests that others make of the model that is hurt."""
    lost_as: frozenset[str] = frozenset()
    """Statuses, or CUT."""
    ends_the_server: bool = False
    """Requests of both models may be lost, and are turned away until it is back."""
    back_within_s: float = BACK_WITHIN_S
    """Until all workers are there and all models answer."""
    waits_at_most_s: float = BACK_WITHIN_S
    """Whoever gets an answer."""
    fills_a_disk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What became of everybody else's requests while a fault was done."""

    asked: int
    lost: Counter[str]
    """By what they got instead."""
    lost_beside: Counter[str]
    """Of the model that nothing was done to."""
    turned_away: int
    """There was no server, it had not the model yet, or it had no place for the request."""
    wrong: int
    """Answers that are not those from before to the same request."""
    unanswered: int
    longest_s: float
    back_s: float
    """Infinite if it did not come back."""
    broken: str | None
    """What the injection did not find as promised."""

    def against(self, fault: Fault, times: float = 1.0) -> list[str]:
        """What is not as promised, in words, if all may take so many times as long as promised."""
        found = [] if self.broken is None else [self.broken]
        lost, beside = self.lost, self.lost_beside
        if fault.ends_the_server:
            lost, beside = lost + beside, Counter[str]()
        if lost.total() > fault.lost_at_most:
            found.append(f"{lost.total()} requests lost, {fault.lost_at_most} allowed")
        if other := sorted(lost.keys() - fault.lost_as):
            found.append(f"lost as {', '.join(other)}")
        if beside:
            found.append(f"{beside.total()} requests of the other model lost")
        if self.turned_away and not fault.ends_the_server:
            found.append(f"{self.turned_away} requests turned away")
        if self.wrong:
            found.append(f"{self.wrong} wrong answers")
        if self.unanswered:
            found.append(f"{self.unanswered} requests never answered")
        for what, took_s, allowed_s in (
            ("back after", self.back_s, fault.back_within_s),
            ("an answer took", self.longest_s, fault.waits_at_most_s),
        ):
            if took_s > times * allowed_s:
                found.append(f"{what} {took_s:.1f} s, {times * allowed_s:g} s allowed")
        return found


def do(fault: Fault, site: Site) -> Measured:
    """One fault, done to a whole server under load, until it is whole again or given up."""
    clients = [(HURT, number) for number in range(CLIENTS)]
    clients += [(NEIGHBOUR, CLIENTS + number) for number in range(CLIENTS_BESIDE)]
    expected = {client: site.ask(_row_of(client), client[0]) for client in clients}
    assert len({json.dumps(answer) for answer in expected.values()}) == len(clients)
    broken = None
    with ExitStack() as stack:
        loads = {
            client: stack.enter_context(
                load_on(site.state, client[0], _row_of(client), clients=1, patience_s=PATIENCE_S)
            )
            for client in clients
        }
        until(lambda: all(len(load.answers) > 2 for load in loads.values()))
        seen = Seen()
        try:
            seen = fault.inject(site)
        except (NotAsPromised, AssertionError) as error:
            broken = str(error)
        back_s = _until_whole(site, seen)
        time.sleep(SETTLED_S)
    lost = {model: Counter[str]() for model in (HURT, NEIGHBOUR)}
    for (model, _), load in loads.items():
        lost[model].update(_kind_of(error) for _, error in load.errors)
    answers = [(client, each) for client, load in loads.items() for _, each in load.answers]
    return Measured(
        asked=len(answers) + sum(each.total() for each in lost.values()),
        turned_away=sum(each.pop(TURNED_AWAY, 0) for each in lost.values()),
        lost=lost[HURT],
        lost_beside=lost[NEIGHBOUR],
        wrong=sum(not _same(found, expected[client]) for client, found in answers),
        unanswered=sum(len(load.under_way) for load in loads.values()),
        longest_s=max(each.took_ms for _, each in answers) / 1000,
        back_s=back_s,
        broken=broken,
    )


def _row_of(client: tuple[str, int]) -> list[float]:
    """Each client's own, so that an answer to somebody else's request is a wrong one."""
    return [ROW[0] + client[1] / 4, *ROW[1:]]


def _kind_of(error: ServerError) -> str:
    """How a request was lost: the status of its answer, CUT, or TURNED_AWAY."""
    # A server that is back has no such model for a while, then one without a worker.
    if isinstance(error, ModelNotFound):
        return TURNED_AWAY
    if isinstance(error, Refused):
        return TURNED_AWAY if error.type in NOT_YET else str(error.code)
    return TURNED_AWAY if isinstance(error.__cause__, httpx.ConnectError) else CUT


def _same(found: Explained, expected: Any) -> bool:
    return [each["label"] for each in found.value] == [each["label"] for each in expected] and all(
        abs(a["probability"] - b["probability"]) < CLOSE
        for a, b in zip(found.value, expected, strict=True)
    )


def _until_whole(site: Site, seen: Seen) -> float:
    """Seconds since the fault."""
    while not site.is_whole(without=seen.gone):
        if time.monotonic() - seen.since > GIVE_UP_AFTER_S:
            return float("inf")
        time.sleep(0.1)
    return time.monotonic() - seen.since
