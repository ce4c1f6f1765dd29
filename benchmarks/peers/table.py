"""What was measured, as rows and as a table."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.systems import OURS, Setting, System

ONE, MANY = 1, 16
"""Clients."""

Visits = Mapping[Setting | None, Sequence["Visit"]]
"""Of one system in one comparison, by setting, a visit a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One load on one server."""

    rate: float
    """Answers a second."""
    p50_ms: float
    p99_ms: float
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A server from its start to its end."""

    samples: Mapping[int, Sample]
    """By clients."""
    memory_mb: float


def rows(
    systems: Sequence[System], visits: Mapping[str, Visits], failures: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A row for each system; one that failed has its reason in `failed` and no figures."""
    ours = None if OURS.key in failures else visits[OURS.key]
    return [
        {"system": each.name, "version": each.version()}
        | (
            {"failed": failures[each.key]}
            if each.key in failures
            else _figures(visits[each.key], ours)
        )
        for each in systems
    ]


def _figures(visits: Visits, ours: Visits | None) -> dict[str, Any]:
    alone, busy = _best_alone(visits), _best_busy(visits)
    one = [each.samples[ONE] for each in visits[alone]]
    many = [each.samples[MANY] for each in visits[busy]]
    rates = [each.rate for each in many]
    ratios = None
    if ours:
        beside = [each.samples[MANY].rate for each in ours[_best_busy(ours)]]
        ratios = [rate / other for rate, other in zip(rates, beside, strict=True)]
    return {
        "requests_a_second": _spread(rates),
        "ratio_to_ours": _spread(ratios) if ratios else None,
        "p50_ms": {ONE: _median(one, "p50_ms"), MANY: _median(many, "p50_ms")},
        "p99_ms": {ONE: _median(one, "p99_ms"), MANY: _median(many, "p99_ms")},
        "workers_x_threads": {ONE: str(alone), MANY: str(busy)} if alone else None,
        "memory_mb": max(each.memory_mb for each in visits[busy]),
        "errors": sum(
            sample.errors
            for each in visits.values()
            for visit in each
            for sample in visit.samples.values()
        ),
    }


def _best_alone(visits: Visits) -> Setting | None:
    """The setting that answers a lone client soonest."""
    return min(visits, key=lambda at: _median([v.samples[ONE] for v in visits[at]], "p50_ms"))


def _best_busy(visits: Visits) -> Setting | None:
    """The setting that answers many clients most often."""
    return max(visits, key=lambda at: _median([v.samples[MANY] for v in visits[at]], "rate"))


def _median(samples: Sequence[Sample], field: str) -> float:
    return statistics.median(getattr(each, field) for each in samples)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


HEADINGS = (
    "system",
    "version",
    "requests a second, 16 clients",
    "to ours",
    "p50 · p99 ms, 1 client",
    "p50 · p99 ms, 16 clients",
    "memory, MB",
    "errors",
)


def markdown(made: Sequence[Mapping[str, Any]]) -> str:
    """A table of the rows, those with figures by rate, then those that failed."""
    good = [each for each in made if "failed" not in each]
    good.sort(key=lambda row: -row["requests_a_second"]["median"])
    settings = any(row["workers_x_threads"] for row in good)
    headings = HEADINGS + (("workers × threads, 1 · 16 clients",) if settings else ())
    lines = [headings, ["---"] * len(headings), *(_cells(row) for row in good)]
    lines += [
        (row["system"], row["version"], row["failed"].replace("|", "\\|"))
        + ("",) * (len(headings) - 3)
        for row in made
        if "failed" in row
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(row: Mapping[str, Any]) -> list[str]:
    rate, ratio = row["requests_a_second"], row["ratio_to_ours"]
    cells = [
        row["system"],
        row["version"],
        f"{rate['median']:.0f} ({rate['least']:.0f} – {rate['most']:.0f})",
        f"{ratio['median']:.2f} ({ratio['least']:.2f} – {ratio['most']:.2f})" if ratio else "",
        *(f"{row['p50_ms'][at]:.1f} · {row['p99_ms'][at]:.1f}" for at in (ONE, MANY)),
        f"{row['memory_mb']:.0f}",
        str(row["errors"]),
    ]
    if setting := row["workers_x_threads"]:
        cells.append(f"{setting[ONE]} · {setting[MANY]}")
    return cells
