"""The choice: the best by the objective within the budget."""

import numpy as np
import pytest

from shipway.artifact.certificate import Candidate, Latency, Loss, Speedup
from shipway.export.choice import (
    choose,
    cost,
    keep_budget,
    points_lost,
    rows_of,
    slower_than_fp32,
)
from shipway.export.errors import NothingFitsBudget
from shipway.export.losses import loss_of
from shipway.export.pipeline import export
from shipway.recipe import Tolerance
from tests.conftest import Silent
from tests.export.workbench import edited

SHAPES = ("1", "8")


def test_a_budget_of_the_recipe_that_no_lossy_candidate_keeps_leaves_fp32(tmp_path):
    last = "    evaluation=noise(1),\n"
    recipe = edited(tmp_path, budget=(last, f"{last}    budget=0.0,\n"))
    exported = export(recipe, Silent(), out=tmp_path / "out", only=("onnx_fp32", "onnx_int8"))
    assert exported.manifest.chosen == "onnx_fp32"
    assert list(exported.manifest.programs) == ["onnx_fp32"]
    assert exported.certificate.budget == 0
    refused = exported.certificate.candidates["onnx_int8"]
    assert not refused.passed and refused.loss.value < refused.loss.bound
    assert refused.verdict.startswith("loses ") and "budget 0)" in refused.verdict


def lost(points: float, rows: int = 2000, classes: int = 4) -> Loss:
    """The loss of accuracy of a program that gets so many of a hundred labelled rows wrong."""
    targets_N = np.arange(rows) % classes
    eager_NK = np.eye(classes)[targets_N]
    candidate_NK = eager_NK.copy()
    wrong = round(points * rows / 100)
    candidate_NK[:wrong] = np.roll(candidate_NK[:wrong], 1, axis=1)
    loss = loss_of(eager_NK, candidate_NK, kind="scores", targets_N=targets_N)
    assert loss is not None
    return loss


@pytest.fixture
def candidates(tiny) -> dict[str, Candidate]:
    """Three that passed: fp32 loses nothing, bf16 one point, int8 four; each is faster."""

    def made(precision: str, points: float, ms: float, size: int) -> Candidate:
        def latency(milliseconds: float) -> Latency:
            return Latency(median_ms=milliseconds, low_ms=1, high_ms=2, runs=8)

        return Candidate(
            verdict="passed",
            passed=True,
            format="onnx",
            runtime="onnxruntime",
            precision=precision,
            bytes=size,
            loss=lost(points),
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
        ("latency", 5.5, "int8"),
        ("latency", 2.0, "bf16"),
        ("latency", 0.0, "fp32"),
        ("size", 2.0, "fp32"),
        ("throughput", 5.5, "int8"),
    ],
)
def test_the_best_that_keeps_the_budget_is_chosen(candidates, objective, budget, name):
    kept = keep_budget(candidates, budget)
    choice = choose(kept, {}, SHAPES, objective=objective, budget=budget, cores=2)
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
    assert "it loses 4.00 points (95% bound 4.80, budget 5); 2 ms" in choice.because


def measured(ms: float, low: float, high: float, **more) -> Latency:
    """A latency with the interval of its median."""
    return Latency(
        median_ms=ms,
        low_ms=low,
        high_ms=high,
        runs=32,
        median_low_ms=low,
        median_high_ms=high,
        **more,
    )


def with_latency(candidate: Candidate, latency: Latency) -> Candidate:
    return candidate.model_copy(update={"latency": {shape: {2: latency} for shape in SHAPES}})


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_of_two_that_are_not_told_apart_the_more_faithful_is_chosen(candidates, objective):
    close = {
        "fp32": with_latency(candidates["fp32"], measured(3.2, 2.9, 3.5)),
        "int8": with_latency(candidates["int8"], measured(3.0, 2.8, 3.1)),
    }
    choice = choose(close, {}, SHAPES, objective=objective, budget=5.0, cores=2)
    assert choice.name == "fp32"
    assert "do not tell it apart from int8 (the 95% intervals overlap)" in choice.because
    apart = close | {"fp32": with_latency(candidates["fp32"], measured(3.2, 3.15, 3.5))}
    choice = choose(apart, {}, SHAPES, objective=objective, budget=5.0, cores=2)
    assert choice.name == "int8" and "tell it apart" not in choice.because


def test_of_two_that_lose_the_same_the_faster_is_chosen(candidates):
    close = {
        "slower": with_latency(candidates["fp32"], measured(3.2, 2.9, 3.5)),
        "faster": with_latency(candidates["fp32"], measured(3.0, 2.8, 3.1)),
    }
    choice = choose(close, {}, SHAPES, objective="latency", budget=5.0, cores=2)
    assert choice.name == "faster" and "tell it apart" not in choice.because


def test_int8_is_refused_as_slower_only_if_it_is_told_apart(candidates):
    fp32 = with_latency(candidates["fp32"], measured(3.0, 2.8, 3.1))
    maybe = with_latency(candidates["int8"], measured(3.2, 2.9, 3.5))
    surely = with_latency(candidates["int8"], measured(3.2, 3.15, 3.5))
    assert slower_than_fp32({"int8": maybe, "fp32": fp32}, "int8", SHAPES) is None
    assert slower_than_fp32({"int8": surely, "fp32": fp32}, "int8", SHAPES)


def test_the_reason_gives_a_bound_where_the_machine_was_not_quiet(candidates):
    over = Speedup(value=5.0, low=4.4, high=5.9, turns=8, basis="processor time")
    noisy = measured(2.0, 1.9, 2.1, basis="processor time", speedup=over)
    eager = {shape: {2: measured(10.0, 9.0, 11.0)} for shape in SHAPES}
    only = {"int8": with_latency(candidates["int8"], noisy)}
    choice = choose(only, eager, SHAPES, objective="latency", budget=5.0, cores=2)
    assert (
        "2 ms at batch 1 (at least 4.4× speedup over eager PyTorch on one thread)" in choice.because
    )


def test_the_front_leaves_out_what_another_beats_in_both(candidates):
    beaten = candidates["bf16"].model_copy(update={"latency": candidates["fp32"].latency})
    choice = choose(
        candidates | {"beaten": beaten}, {}, SHAPES, objective="latency", budget=5.0, cores=2
    )
    assert [point.program for point in choice.pareto] == ["fp32", "bf16", "int8"]


def test_a_point_estimate_that_meets_the_budget_exactly_does_not_keep_it(candidates):
    kept = keep_budget(candidates, 4.0)
    assert kept["bf16"].passed and not kept["int8"].passed
    assert kept["int8"].verdict.startswith("loses 4.00 points (95% bound 4.")
    assert kept["int8"].verdict.endswith("budget 4)")


def test_bounds_are_corrected_for_the_lossy_candidates_that_passed(candidates):
    alone = keep_budget({"int8": candidates["int8"]}, 9.0)["int8"].loss
    beside = keep_budget(candidates, 9.0)["int8"].loss
    refused = candidates["bf16"].model_copy(update={"passed": False})
    assert (alone.compared, beside.compared) == (1, 2) and alone.bound < beside.bound
    assert keep_budget(candidates | {"bf16": refused}, 9.0)["int8"].loss == alone


def test_too_few_rows_refuse_what_did_not_differ_and_say_how_many_it_needs(candidates):
    few = candidates["int8"].model_copy(update={"loss": lost(0, rows=100)})
    (verdict,) = (each.verdict for each in keep_budget({"int8": few}, 1.0).values())
    assert verdict == (
        "loses 0.00 points (95% bound 2.94, budget 1): too few evaluation inputs. There are 100 "
        "rows; a program that never differs needs 296 rows"
    )
    enough = candidates["int8"].model_copy(update={"loss": lost(0, rows=296)})
    assert keep_budget({"int8": enough}, 1.0)["int8"].passed


def test_fp32_needs_no_budget_unless_its_tolerance_is_wider_than_rounding(candidates):
    few = candidates["fp32"].model_copy(update={"loss": lost(0, rows=20)})
    assert keep_budget({"fp32": few}, 1.0)["fp32"].passed
    wide = few.model_copy(update={"tolerance": Tolerance(relative_error=0.5)})
    assert not keep_budget({"fp32": wide}, 1.0)["fp32"].passed


def test_a_candidate_without_a_loss_is_refused(candidates):
    unknown = candidates["int8"].model_copy(update={"loss": None})
    assert "not measured" in keep_budget({"int8": unknown}, 1.0)["int8"].verdict
    assert points_lost(unknown) == 0


def test_a_budget_that_nothing_keeps_lists_what_each_loses(candidates):
    lossy = {name: candidates[name] for name in ("int8", "bf16")}
    with pytest.raises(NothingFitsBudget, match=r"int8 loses 4\.00 .*; bf16 loses 1\.00 "):
        choose(keep_budget(lossy, 0.5), {}, SHAPES, objective="latency", budget=0.5, cores=2)


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
