"""From verified candidates to the program to serve: measures them, chooses one, sets its batches.

A shape is written as "8" for a batch of 8 rows, and "8x128" for 8 texts of 128 tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import geometric_mean

from shipway.artifact.certificate import Candidate, Latency
from shipway.artifact.manifest import Serving
from shipway.export import worker
from shipway.export.child_process import Child
from shipway.export.choice import (
    Choice,
    Objective,
    choose,
    keep_budget,
    rows_of,
    slower_than_fp32,
)
from shipway.export.measure import best_batch_size
from shipway.export.noise import Latencies, comparable, runs_in_words, sound_threads
from shipway.export.steps import Steps
from shipway.recipe import Axis, TensorSpec
from shipway.runtime.batches import is_text

COMPARED_BATCHES = (1, 8)
COMPARED_LENGTHS = (16, 128)
"""For texts, in tokens: a single short text, and a batch of long ones."""
SERVED_BATCHES = (1, 2, 4, 8, 16, 32)
SERVED_LENGTHS = (16, 64)
"""For texts, in tokens, in addition to the longest compared length."""
CLOSE_ENOUGH_FOR_ONE_THREAD = 2.0
"""Candidates within this factor of the fastest are measured on one thread too."""

Measure = Callable[[list[str], tuple[str, ...], int, bool], dict[str, dict[str, Latency]]]
"""Runs in the child process: takes programs, shapes, the number of threads and whether to measure
eager as well; returns latencies by shape and program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The candidates with their latencies, and the choice among them."""

    candidates: dict[str, Candidate]
    eager: dict[str, dict[int, Latency]]
    """Latencies of eager PyTorch by shape and threads; empty if it was not measured."""
    choice: Choice
    serving: Serving


def compared_shapes(inputs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    """The shapes at which candidates are compared, the largest last."""
    sizes = [min(size, _batch_axis(inputs).max) for size in COMPARED_BATCHES]
    length = inputs[0].shape[1] if is_text(inputs) else None
    if isinstance(length, Axis):
        lengths = [min(tokens, length.max) for tokens in COMPARED_LENGTHS]
        return tuple(f"{size}x{tokens}" for size, tokens in zip(sizes, lengths, strict=True))
    return tuple(dict.fromkeys(map(str, sizes)))


def measure_and_choose(
    child: Child,
    steps: Steps,
    candidates: Mapping[str, Candidate],
    shapes: tuple[str, ...],
    inputs: tuple[TensorSpec, ...],
    *,
    objective: Objective,
    budget: float,
    cores: int,
    measure: Measure = worker.measure,
) -> Outcome:
    """Measures all that passed, refuses quantized ones that are slower than fp32 or may lose more
    than the budget, and chooses.

    `budget` is in points, see losses.loss_of. Raises NothingFitsBudget.
    """
    measured = _measure_all(child, steps, candidates, shapes, cores, measure)
    latencies = comparable(measured, shapes, worker.EAGER)
    candidates = keep_budget(_refuse_slow(candidates, latencies, shapes), budget)
    eager = latencies.get(worker.EAGER, {})
    choice = choose(candidates, eager, shapes, objective=objective, budget=budget, cores=cores)
    tokens = shapes[-1].partition("x")[2]
    by_shape = _measure_chosen(child, steps, choice, inputs, tokens, measure)
    by_batch_ms = {
        rows_of(shape): latency.median_ms
        for shape, latency in by_shape.items()
        if shape.partition("x")[2] == tokens
    }
    return Outcome(
        candidates=candidates | {choice.name: _with_latencies(candidates, choice, by_shape)},
        eager=eager,
        choice=choice,
        serving=serving_settings(choice, by_batch_ms),
    )


def serving_settings(choice: Choice, by_batch_ms: Mapping[int, float]) -> Serving:
    """Batches, workers and threads for the chosen program, from its latency by batch size."""
    batch_size = best_batch_size(by_batch_ms)
    return Serving(
        batch_size=batch_size,
        # TorchServe fills a batch only while the delay lasts: with 0 it takes two rows at most.
        max_batch_delay_ms=1 if batch_size > 2 else 0,
        workers=choice.workers,
        threads=choice.threads,
    )


def _batch_axis(inputs: tuple[TensorSpec, ...]) -> Axis:
    axis = inputs[0].shape[0]
    assert isinstance(axis, Axis)
    return axis


def _measure_all(
    child: Child,
    steps: Steps,
    candidates: Mapping[str, Candidate],
    shapes: tuple[str, ...],
    cores: int,
    measure: Measure,
) -> Latencies:
    """All that passed on all cores; then those that are close to the fastest on one core.

    Where all cores were never quiet, all that passed, and eager, run on one core too: the waits of
    one thread can be subtracted.
    """
    latencies: Latencies = {}

    def add(by_shape: dict[str, dict[str, Latency]], threads: int) -> None:
        for shape, by_name in by_shape.items():
            for name, latency in by_name.items():
                latencies.setdefault(name, {}).setdefault(shape, {})[threads] = latency

    def mean_ms(name: str) -> float:
        return geometric_mean(each[cores].median_ms for each in latencies[name].values())

    passed = [name for name, candidate in candidates.items() if candidate.passed]
    plural = "s" if len(passed) != 1 else ""
    with steps.step(f"measuring {len(passed)} candidate{plural} in turns") as step:
        add(child.run(measure, passed, shapes, cores, True), cores)
        step.note(_runs_in_words(latencies, cores))
    if cores > 1:
        is_sound = cores in sound_threads(latencies, shapes, worker.EAGER)
        fastest_ms = min(mean_ms(name) for name in passed)
        close = [
            name
            for name in passed
            if not is_sound or mean_ms(name) <= fastest_ms * CLOSE_ENOUGH_FOR_ONE_THREAD
        ]
        which = f"the {len(close)} fastest" if is_sound else "all again"
        with steps.step(f"measuring {which} on one thread") as step:
            add(child.run(measure, close, shapes, 1, not is_sound), 1)
            step.note(_runs_in_words(latencies, 1))
    return latencies


def _runs_in_words(latencies: Latencies, threads: int) -> str:
    return runs_in_words(
        by_threads[threads]
        for by_shape in latencies.values()
        for by_threads in by_shape.values()
        if threads in by_threads
    )


def _refuse_slow(
    candidates: Mapping[str, Candidate], latencies: Latencies, shapes: tuple[str, ...]
) -> dict[str, Candidate]:
    """The candidates with their latencies; quantized ones that are slower than fp32 fail."""
    timed = {
        name: candidate.model_copy(update={"latency": latencies.get(name, {})})
        for name, candidate in candidates.items()
    }
    judged = {}
    for name, candidate in timed.items():
        reason = slower_than_fp32(timed, name, shapes) if candidate.passed else None
        refusal = {"passed": False, "verdict": reason} if reason else {}
        judged[name] = candidate.model_copy(update=refusal)
    return judged


def _measure_chosen(
    child: Child,
    steps: Steps,
    choice: Choice,
    inputs: tuple[TensorSpec, ...],
    tokens: str,
    measure: Measure,
) -> dict[str, Latency]:
    """The chosen program at every shape that serving plans with."""
    most = _batch_axis(inputs).max
    sizes = sorted({*(size for size in SERVED_BATCHES if size <= most), most})
    longest = inputs[0].shape[1] if is_text(inputs) else None
    if isinstance(longest, Axis):
        lengths = sorted({min(length, longest.max) for length in (*SERVED_LENGTHS, int(tokens))})
        shapes = tuple(f"{size}x{length}" for length in lengths for size in sizes)
    else:
        shapes = tuple(map(str, sizes))
    with steps.step(f"measuring {choice.name} at every batch size"):
        by_shape = child.run(measure, [choice.name], shapes, choice.threads, False)
    return {shape: by_name[choice.name] for shape, by_name in by_shape.items()}


def _with_latencies(
    candidates: Mapping[str, Candidate], choice: Choice, by_shape: Mapping[str, Latency]
) -> Candidate:
    chosen = candidates[choice.name]
    latency = {shape: dict(by_threads) for shape, by_threads in chosen.latency.items()}
    for shape, measured in by_shape.items():
        latency.setdefault(shape, {}).setdefault(choice.threads, measured)
    return chosen.model_copy(update={"latency": latency})
