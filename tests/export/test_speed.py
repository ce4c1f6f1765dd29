"""Shapes that are compared, and what follows from latencies."""

import numpy as np
import pytest

from shipway.artifact.certificate import Candidate, Latency
from shipway.export import worker
from shipway.export.choice import Choice
from shipway.export.losses import loss_of
from shipway.export.speed import compared_shapes, measure_and_choose, serving_settings
from shipway.recipe import Axis, TensorSpec
from shipway.runtime.batches import TOKENS
from tests.conftest import Silent


@pytest.mark.parametrize(
    ("latency", "best", "delay_ms"),
    [
        ({1: 3.0, 2: 4.0, 4: 6.0, 8: 11.9}, 4, 1),
        ({1: 3.0, 2: 6.1}, 1, 0),
        ({1: 3.0, 2: 4.0, 4: 7.9}, 2, 0),
        ({1: 3.0, 8: 8.0}, 8, 1),
    ],
)
def test_batches_are_as_small_and_wait_as_briefly_as_wins_most(latency, best, delay_ms):
    choice = Choice(name="any", threads=1, workers=2, because="", pareto=())
    settings = serving_settings(choice, latency)
    assert (settings.batch_size, settings.max_batch_delay_ms) == (best, delay_ms)
    assert (settings.workers, settings.threads) == (2, 1)


def table(most: int) -> tuple[TensorSpec, ...]:
    return (TensorSpec(name="x", dtype="float32", shape=(Axis(name="batch", max=most), 5)),)


def texts(most: int, longest: int) -> tuple[TensorSpec, ...]:
    shape = (Axis(name="batch", max=most), Axis(name="length", min=2, max=longest))
    return tuple(TensorSpec(name=name, dtype="int64", shape=shape) for name in TOKENS)


@pytest.mark.parametrize(
    ("inputs", "shapes"),
    [
        (table(32), ("1", "8")),
        (table(4), ("1", "4")),
        (table(1), ("1",)),
        (texts(32, 256), ("1x16", "8x128")),
        (texts(4, 64), ("1x16", "4x64")),
    ],
)
def test_a_lone_row_and_a_batch_are_compared_for_texts_a_short_one_and_long_ones(inputs, shapes):
    assert compared_shapes(inputs) == shapes


OUTPUTS = np.random.default_rng(0).normal(size=(500, 4))
MS = {worker.EAGER: 10.0, "fp32": 4.0, "int8": 2.0, "slow_int8": 5.0}


class InProcess:
    """Runs in this process what a child process would run."""

    def run(self, call, *arguments):
        return call(*arguments)


def measure(names, shapes, threads, with_eager):
    """Latencies from the table above; one thread takes twice as long as all cores."""
    everything = [*names, *([worker.EAGER] if with_eager else [])]
    return {
        shape: {
            name: latency(MS[name] * int(shape) * (2 if threads == 1 else 1)) for name in everything
        }
        for shape in shapes
    }


def latency(milliseconds: float) -> Latency:
    return Latency(median_ms=milliseconds, low_ms=milliseconds, high_ms=milliseconds, runs=8)


def candidate(precision: str, cosine_agreement) -> Candidate:
    return Candidate(
        verdict="passed",
        passed=True,
        format="onnx",
        runtime="onnxruntime",
        precision=precision,
        agreement=(cosine_agreement,),
        loss=loss_of(OUTPUTS, OUTPUTS, kind="embedding"),
    )


def test_slow_int8_is_refused_the_fastest_chosen_and_measured_at_every_batch_size(tiny):
    (agreement, *_) = tiny.certificate.candidates["onnx_fp32"].agreement
    candidates = {
        name: candidate("int8" if "int8" in name else "fp32", agreement)
        for name in MS
        if name != "eager"
    }
    outcome = measure_and_choose(
        InProcess(),
        Silent(),
        candidates,
        ("1", "8"),
        table(32),
        objective="latency",
        budget=5.0,
        cores=2,
        measure=measure,
    )
    assert outcome.choice.name == "int8"
    assert not outcome.candidates["slow_int8"].passed
    assert "it takes" in outcome.candidates["slow_int8"].verdict
    assert set(outcome.candidates["int8"].latency) == {"1", "2", "4", "8", "16", "32"}
    assert outcome.eager["8"][2].median_ms == 80.0
    assert 1 not in outcome.candidates["slow_int8"].latency["1"], "too slow for one thread"
    assert outcome.serving.batch_size == 1, "larger batches gain nothing here"


def test_where_all_cores_are_never_quiet_everything_is_compared_on_one_thread(tiny):
    (agreement, *_) = tiny.certificate.candidates["onnx_fp32"].agreement
    asked = []

    def noisy(names, shapes, threads, with_eager):
        """On all cores the time is anything, on one thread it is the processor time."""
        asked.append((sorted(names), threads, with_eager))
        found = measure(names, shapes, 1, with_eager)
        wrong = {"fp32": 900.0, "int8": 30.0, worker.EAGER: 3000.0, "slow_int8": 5000.0}
        return {
            shape: {
                name: one.model_copy(update={"basis": "processor time", "runs": 32})
                if threads == 1
                else latency(wrong[name]).model_copy(update={"basis": "all runs", "runs": 32})
                for name, one in by_name.items()
            }
            for shape, by_name in found.items()
        }

    outcome = measure_and_choose(
        InProcess(),
        Silent(),
        {
            name: candidate("int8" if "int8" in name else "fp32", agreement)
            for name in MS
            if name != worker.EAGER
        },
        ("1", "8"),
        table(8),
        objective="latency",
        budget=5.0,
        cores=2,
        measure=noisy,
    )
    everything = ["fp32", "int8", "slow_int8"]
    assert asked[:2] == [(everything, 2, True), (everything, 1, True)]
    assert outcome.choice.name == "int8" and outcome.choice.threads == 1
    assert outcome.eager["1"].keys() == {1}, "what was disturbed is in no certificate"
    assert outcome.eager["1"][1].median_ms == 20.0
    assert "roughly 5× speedup" in outcome.choice.because, "not 100 times"
