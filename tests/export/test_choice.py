"""The choice: the best by the objective within the budget."""

import pytest

from shipway.artifact.certificate import Candidate, Latency
from shipway.export.choice import choose, cost, points_lost, rows_of, slower_than_fp32
from shipway.export.errors import NothingFitsBudget
from shipway.export.pipeline import export
from tests.conftest import TINY_RECIPE, Silent

SHAPES = ("1", "8")


def test_a_budget_that_nothing_meets_seals_nothing_and_shows_how_far_each_was(tmp_path):
    with pytest.raises(NothingFitsBudget, match=r"onnx_int8 loses \d"):
        export(str(TINY_RECIPE), Silent(), out=tmp_path, only=("onnx_fp32", "onnx_int8"), budget=-1)
    assert not (tmp_path / "tiny-1.0").exists()


@pytest.fixture
def candidates(tiny) -> dict[str, Candidate]:
    """Three that passed: fp32 loses nothing, bf16 one point, int8 four; each is faster."""
    (agreement, *_) = tiny.certificate.candidates["onnx_fp32"].agreement

    def made(precision: str, lost: float, ms: float, size: int) -> Candidate:
        def latency(milliseconds: float) -> Latency:
            return Latency(median_ms=milliseconds, low_ms=1, high_ms=2, runs=8)

        return Candidate(
            verdict="passed",
            passed=True,
            format="onnx",
            runtime="onnxruntime",
            precision=precision,
            bytes=size,
            agreement=(agreement.model_copy(update={"top1_agreement": 1 - lost / 100}),),
            # Two threads are faster, but not twice as fast.
            latency={shape: {1: latency(1.5 * ms), 2: latency(ms)} for shape in SHAPES},
        )

    return {
        "fp32": made("fp32", 0, 4.0, 400),
        "bf16": made("bf16", 1, 3.0, 500),
        "int8": made("int8", 4, 2.0, 100),
    }


@pytest.mark.parametrize(
    ("objective", "budget", "name"),
    [
        ("latency", 5.0, "int8"),
        ("latency", 2.0, "bf16"),
        ("latency", 0.0, "fp32"),
        ("size", 2.0, "fp32"),
        ("throughput", 5.0, "int8"),
    ],
)
def test_the_best_within_the_budget_is_chosen(candidates, objective, budget, name):
    choice = choose(candidates, {}, SHAPES, objective=objective, budget=budget, cores=2)
    assert choice.name == name


def test_latency_takes_all_cores_for_one_worker_and_throughput_a_worker_for_each(candidates):
    latency, throughput = (
        choose(candidates, {}, SHAPES, objective=objective, budget=5.0, cores=2)
        for objective in ("latency", "throughput")
    )
    assert (latency.threads, latency.workers) == (2, 1)
    assert (throughput.threads, throughput.workers) == (1, 2)


def test_the_reason_has_the_speedup_over_eager(candidates):
    eager = {shape: {2: Latency(median_ms=10, low_ms=9, high_ms=11, runs=8)} for shape in SHAPES}
    choice = choose(candidates, eager, SHAPES, objective="latency", budget=5.0, cores=2)
    assert "2 ms at batch 1 (5.0× speedup over eager PyTorch)" in choice.because
    assert "it loses 4;" in choice.because


def test_the_front_leaves_out_what_another_beats_in_both(candidates):
    beaten = candidates["bf16"].model_copy(update={"latency": candidates["fp32"].latency})
    choice = choose(
        candidates | {"beaten": beaten}, {}, SHAPES, objective="latency", budget=5.0, cores=2
    )
    assert [point.program for point in choice.pareto] == ["fp32", "bf16", "int8"]


def test_a_budget_that_nothing_meets_lists_what_each_loses(candidates):
    with pytest.raises(NothingFitsBudget, match=r"bf16 loses 1\.00, int8 loses 4\.00"):
        choose(
            {name: candidates[name] for name in ("int8", "bf16")},
            {},
            SHAPES,
            objective="latency",
            budget=0.5,
            cores=2,
        )


def test_int8_is_compared_with_fp32_on_its_own_runtime(candidates):
    slow = candidates["int8"].model_copy(update={"latency": candidates["fp32"].latency})
    faster = candidates["fp32"].model_copy(update={"latency": candidates["int8"].latency})
    other = faster.model_copy(update={"runtime": "openvino"})
    assert slower_than_fp32({"a": slow, "fp32": candidates["fp32"]}, "a", SHAPES) is None
    assert (
        slower_than_fp32({"a": slow, "fp32": candidates["fp32"], "o": other}, "a", SHAPES) is None
    )
    assert slower_than_fp32({"a": slow, "fp32": faster}, "a", SHAPES) == (
        "it takes 4 ms on this host, but fp32 in fp32 takes only 2 ms"
    )
    assert slower_than_fp32({"fp32": slow}, "fp32", SHAPES) is None


def test_small_numbers(candidates):
    assert points_lost(candidates["int8"]) == 4
    assert (rows_of("8"), rows_of("8x128")) == (8, 8)
    assert cost(candidates["int8"], SHAPES, "size", 2) == 100
