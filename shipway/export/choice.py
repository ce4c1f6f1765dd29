"""Which program to serve: the best by the objective among those within the accuracy budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Literal

from shipway.artifact.certificate import Candidate, Latency, Loss
from shipway.artifact.manifest import ParetoPoint
from shipway.export.errors import NothingFitsBudget
from shipway.export.intervals import CONFIDENCE
from shipway.export.losses import bound_if_unchanged, corrected, rows_needed
from shipway.export.noise import Cost, preferred
from shipway.export.speedup import in_words, speedup
from shipway.export.verify import TOLERANCES

Objective = Literal["latency", "throughput", "size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The program to serve, and how."""

    name: str
    because: str
    """The reason in words."""
    pareto: tuple[ParetoPoint, ...]
    """The candidates that no other beats in both points lost and latency."""
    threads: int
    """Of each worker."""
    workers: int


def points_lost(candidate: Candidate) -> float:
    """The points that a candidate lost on the evaluation rows; 0 if no loss is recorded."""
    return 0.0 if candidate.loss is None else candidate.loss.value


def is_lossy(candidate: Candidate) -> bool:
    """Whether the budget decides on a candidate.

    It does not on fp32 programs that are held to a tolerance no wider than the default one: they
    are equal to eager PyTorch.
    """
    if candidate.precision != "fp32":
        return True
    allowed, default = candidate.tolerance, TOLERANCES["fp32"]
    return allowed is not None and allowed.relative_error > default.relative_error


def _may_lose(candidate: Candidate) -> float:
    """The most points that a candidate loses with 95% confidence; 0 if it is equal to eager."""
    return candidate.loss.bound if candidate.loss and is_lossy(candidate) else 0.0


def keep_budget(candidates: Mapping[str, Candidate], budget: float) -> dict[str, Candidate]:
    """The candidates, those refused whose loss does not keep the budget by its confidence bound.

    `budget` is in points. The bounds are corrected for the number of lossy candidates that passed.
    """
    compared = sum(each.passed and is_lossy(each) for each in candidates.values())
    judged = {}
    for name, candidate in candidates.items():
        if candidate.loss is not None:
            loss = corrected(candidate.loss, max(1, compared))
            candidate = candidate.model_copy(update={"loss": loss})
        reason = why_over_budget(candidate, budget) if candidate.passed else None
        refusal = {"passed": False, "verdict": reason} if reason else {}
        judged[name] = candidate.model_copy(update=refusal)
    return judged


def why_over_budget(candidate: Candidate, budget: float) -> str | None:
    """The reason to refuse a candidate that may lose more points than the budget, or None."""
    if not is_lossy(candidate):
        return None
    loss = candidate.loss
    if loss is None:
        return "its loss was not measured; export the model again"
    if loss.bound <= budget:
        return None
    words = loss_in_words(loss, budget)
    if loss.value > budget or bound_if_unchanged(loss) <= budget:
        return words
    return f"{words}: too few evaluation inputs. {_needed(loss, budget)}"


def loss_in_words(loss: Loss, budget: float | None = None) -> str:
    """A loss with its bound: "loses 0.15 points (95% bound 0.24, budget 1)"."""
    limit = "" if budget is None else f", budget {budget:g}"
    return f"loses {loss.value + 0.0:.2f} points ({CONFIDENCE:.0%} bound {loss.bound:.2f}{limit})"


def _needed(loss: Loss, budget: float) -> str:
    found = f"{loss.rows} rows" + (
        "" if loss.clusters == loss.rows else f" in {loss.clusters} groups"
    )
    needed = rows_needed(loss, budget)
    if needed is None:
        return f"There are {found}, and no number of rows proves a budget of {budget:g}"
    rows = f"{needed[0]} rows" + ("" if loss.clusters == loss.rows else f" in {needed[1]} groups")
    return f"There are {found}; a program that never differs needs {rows}"


def rows_of(shape: str) -> int:
    """The rows of a shape such as "8" or "8x128"."""
    return int(shape.partition("x")[0])


def latency_ms(candidate: Candidate, shapes: tuple[str, ...]) -> float:
    """The geometric mean in ms of the medians at all shapes, each at its best number of threads."""
    return geometric_mean(candidate.best_ms(shape) or float("inf") for shape in shapes)


def interval(
    candidate: Candidate, shapes: tuple[str, ...], objective: Objective, cores: int
) -> Cost:
    """The `cost`, with its 95% interval; a geometric mean's from those of all shapes."""
    value = cost(candidate, shapes, objective, cores)
    match objective:
        case "latency":
            best = [
                Cost.of(min(by_threads.values(), key=lambda each: each.median_ms))
                for shape in shapes
                if (by_threads := candidate.latency.get(shape))
            ]
            if len(best) < len(shapes):
                return Cost(value=value, low=value, high=value)
            low = geometric_mean(each.low for each in best)
            return Cost(value=value, low=low, high=geometric_mean(each.high for each in best))
        case "throughput":
            by_threads = candidate.latency[shapes[-1]]
            rates = _rates(by_threads, shapes[-1], cores)
            best_one = Cost.of(by_threads[max(rates, key=lambda each: rates[each])])
            ms = best_one.value
            return Cost(value=value, low=value * best_one.low / ms, high=value * best_one.high / ms)
        case "size":
            return Cost(value=value, low=value, high=value)


def cost(candidate: Candidate, shapes: tuple[str, ...], objective: Objective, cores: int) -> float:
    """The number that the objective minimizes: ms, ms per row, or bytes."""
    match objective:
        case "latency":
            return latency_ms(candidate, shapes)
        case "throughput":
            return 1 / max(_rates(candidate.latency[shapes[-1]], shapes[-1], cores).values())
        case "size":
            return float(candidate.bytes or 0)


def _rates(by_threads: Mapping[int, Latency], shape: str, cores: int) -> dict[int, float]:
    """Rows per ms by number of threads, with as many workers as fit on the cores."""
    return {
        threads: (cores // threads) * rows_of(shape) / each.median_ms
        for threads, each in by_threads.items()
    }


def slower_than_fp32(
    candidates: Mapping[str, Candidate], name: str, shapes: tuple[str, ...]
) -> str | None:
    """The reason to refuse a quantized program that is slower than fp32, or None.

    It is compared with fp32 in the same format on the same runtime if there is one, else with the
    fastest fp32 program.
    """
    candidate = candidates[name]
    if candidate.precision == "fp32":
        return None
    fp32 = {
        other: each
        for other, each in candidates.items()
        if each.passed and each.precision == "fp32" and each.latency
    }
    kin = {
        other: each
        for other, each in fp32.items()
        if (each.runtime, each.format) == (candidate.runtime, candidate.format)
    }
    rivals = kin or fp32
    if not rivals:
        return None
    rival = min(rivals, key=lambda other: latency_ms(rivals[other], shapes))
    ours, theirs = latency_ms(candidate, shapes), latency_ms(rivals[rival], shapes)
    if ours <= theirs or not _is_told_apart(candidate, rivals[rival], shapes):
        return None
    return f"it takes {ours:.3g} ms on this host, but {rival} in fp32 takes only {theirs:.3g} ms"


def _is_told_apart(slow: Candidate, fast: Candidate, shapes: tuple[str, ...]) -> bool:
    """Whether the intervals of two latencies do not overlap."""
    slow_ms, fast_ms = (interval(each, shapes, "latency", 1) for each in (slow, fast))
    return slow_ms.low > fast_ms.high


def choose(
    candidates: Mapping[str, Candidate],
    eager: Mapping[str, Mapping[int, Latency]],
    shapes: tuple[str, ...],
    *,
    objective: Objective,
    budget: float,
    cores: int,
) -> Choice:
    """Chooses the best of the candidates that `keep_budget` let pass. Raises NothingFitsBudget.

    Among those that the measurements do not tell apart, the one that loses least. `budget` is in
    points.
    """
    passed = {name: each for name, each in candidates.items() if each.passed}
    if not passed:
        refused = {name: each.verdict for name, each in candidates.items() if each.loss}
        raise NothingFitsBudget(budget, refused)
    costs = {name: interval(each, shapes, objective, cores) for name, each in passed.items()}
    name, tied = preferred(costs, lambda each: _may_lose(passed[each]))
    winner = passed[name]
    if objective == "throughput":
        rates = _rates(winner.latency[shapes[-1]], shapes[-1], cores)
        threads = max(rates, key=lambda each: rates[each])
        workers = max(1, cores // threads)
    else:
        threads = _best_threads(winner, shapes)
        workers = 1
    return Choice(
        name=name,
        because=_because(winner, eager, shapes, objective, budget)
        + _not_told_apart(costs, name, tied),
        pareto=_pareto(passed, shapes),
        threads=threads,
        workers=workers,
    )


def _best_threads(candidate: Candidate, shapes: tuple[str, ...]) -> int:
    # Not every number of threads was measured at every shape: slow ones were dropped early.
    measured = set.intersection(*(set(candidate.latency[shape]) for shape in shapes))
    return min(
        measured,
        key=lambda threads: geometric_mean(
            candidate.latency[shape][threads].median_ms for shape in shapes
        ),
    )


def _because(
    winner: Candidate,
    eager: Mapping[str, Mapping[int, Latency]],
    shapes: tuple[str, ...],
    objective: Objective,
    budget: float,
) -> str:
    parts = []
    for shape in shapes:
        ours = winner.best_ms(shape) or float("inf")
        part = f"{ours:.3g} ms at {_in_words(shape)}"
        if found := speedup(winner, eager, shape):
            part += f" ({in_words(found)})"
        parts.append(part)
    speed = "; ".join(parts)
    loss = (
        loss_in_words(winner.loss, budget)
        if winner.loss and is_lossy(winner)
        else "is equal to eager PyTorch within fp32 rounding"
    )
    return (
        f"best {objective} among the candidates that keep the accuracy budget of {budget:g} "
        f"point{'' if budget == 1 else 's'}: it {loss}; {speed}"
    )


def _not_told_apart(costs: Mapping[str, Cost], name: str, tied: list[str]) -> str:
    """The faster ones that it was preferred to, in words; empty if there are none."""
    faster = [each for each in tied if costs[each].value < costs[name].value]
    if not faster:
        return ""
    return (
        f"; the measurements do not tell it apart from {', '.join(faster)} "
        f"(the {CONFIDENCE:.0%} intervals overlap), and it loses less"
    )


def _in_words(shape: str) -> str:
    rows, _, tokens = shape.partition("x")
    return f"batch {rows}" + (f" of {tokens} tokens" if tokens else "")


def _pareto(passed: Mapping[str, Candidate], shapes: tuple[str, ...]) -> tuple[ParetoPoint, ...]:
    points = [
        ParetoPoint(
            program=name,
            points_lost=round(max(0.0, points_lost(each)), 4),
            latency_ms=round(latency_ms(each, shapes), 4),
            bytes=each.bytes or 0,
        )
        for name, each in passed.items()
    ]
    front: list[ParetoPoint] = []
    for point in sorted(points, key=lambda each: (each.points_lost, each.latency_ms)):
        if not front or point.latency_ms < front[-1].latency_ms:
            front.append(point)
    return tuple(front)
