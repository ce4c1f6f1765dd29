"""What every study shares: how it ends on a signal, a closed loop of clients, and its targets.

The last line of a study that checks targets is JSON, and its exit code is 1 if one is missed:

    {"met": 1, "of": 2, "targets": {"errors": {"reached": 0, "target": "<= 0", "met": true}, …}}
"""

import json
import operator
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from shipway.engines.torchserve.temporary import ServedModel
from shipway.loadtest.load_test import Input, LoadTest, Target
from shipway.loadtest.result import Result
from shipway.loadtest.runner import measure
from shipway.loadtest.shapes.closed import ClosedLoop

RESULTS = Path("benchmarks/results")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a study reached of one target."""

    reached: float | None
    """None for what could not be measured, which misses the target."""
    target: str
    """The comparison that is to hold, such as ">= 5.5"."""
    met: bool


def at_least(reached: float | None, bound: float) -> Outcome:
    """The outcome of a figure that should be `bound` or more."""
    return _compared(reached, ">=", bound, operator.ge)


def at_most(reached: float | None, bound: float) -> Outcome:
    """The outcome of a figure that should be `bound` or less."""
    return _compared(reached, "<=", bound, operator.le)


def _compared(
    reached: float | None, sign: str, bound: float, holds: Callable[[float, float], bool]
) -> Outcome:
    met = reached is not None and holds(reached, bound)
    return Outcome(reached=reached, target=f"{sign} {bound:g}", met=met)


def summary(outcomes: Mapping[str, Outcome]) -> dict[str, object]:
    """What the last line of a study says, as JSON has it."""
    return {
        "met": sum(outcome.met for outcome in outcomes.values()),
        "of": len(outcomes),
        "targets": {name: asdict(outcome) for name, outcome in outcomes.items()},
    }


def finish(outcomes: Mapping[str, Outcome]) -> NoReturn:
    """Prints the last line and ends the process: with 0 if every target is met, else with 1."""
    print(json.dumps(summary(outcomes)), flush=True)
    sys.exit(0 if all(outcome.met for outcome in outcomes.values()) else 1)


def exit_on_sigterm() -> None:
    """Makes SIGTERM unwind this process as Ctrl-C does, so that no server is left running."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def closed_loop(
    model: ServedModel,
    bodies: Sequence[bytes],
    clients: int,
    seconds: float,
    *,
    content_type: str = "application/octet-stream",
    warm_up_s: float = 4.0,
) -> Result:
    """Measures `clients` that each send their next request when the last one is answered."""
    return measure(
        LoadTest(
            target=Target(url=model.url),
            headers=dict(model.headers),
            inputs=tuple(Input(name="", content_type=content_type, body=body) for body in bodies),
            load=ClosedLoop(clients=clients),
            warm_up_s=warm_up_s,
            seconds=seconds,
        )
    )
