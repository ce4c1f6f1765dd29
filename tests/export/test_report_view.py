"""What the report shows beyond the records themselves."""

import pytest

from shipway.export.report_view import View, batch_in_words
from shipway.recipe import Axis, TensorSpec


@pytest.fixture
def view(eventful) -> View:
    manifest, certificate = eventful
    return View(manifest=manifest, certificate=certificate, budget=5.0)


def test_states_are_counted(view):
    assert view.state(view.manifest.chosen) == "chosen"
    assert [view.state(name) for name in ("crashed", "skipped_one", "slow")] == [
        "refused",
        "skipped",
        "refused",
    ]
    assert {state: count for count, state in view.counts} == {
        "passed": len(view.manifest.programs),
        "refused": 3,
        "skipped": 1,
    }


def test_candidates_left_out_for_the_same_kind_of_reason_stand_together(view):
    groups = {group.explanation.title: dict(group.reasons) for group in view.left_out}
    assert set(groups["Its process crashed"]) == {"crashed"}
    assert sum(map(len, groups.values())) == 4


def test_the_ranking_names_the_program_that_was_examined(view):
    assert view.ranked_program == "onnx_int8"
    assert view.ranked_program_error == max(
        each.relative_error for each in view.certificate.candidates["onnx_int8"].agreement
    )
    assert view.sensitivity_in_words.startswith("One layer causes")


def test_a_speedup_is_eagers_time_over_the_candidates(view):
    shape = view.certificate.shapes[0]
    speedup = view.speedup(view.chosen, shape)
    assert speedup.value == pytest.approx(
        view.eager_ms(shape) / view.chosen.best_ms(shape), rel=0.5
    )
    assert view.speedup(view.certificate.candidates["crashed"], shape) is None


def test_the_quiet_runs_of_all_that_was_compared_are_counted(view):
    quiet, of, runs, *_ = view.quiet_runs.split()
    assert of == "of" and 0 <= int(quiet) <= int(runs)
    older = view.certificate.model_copy(update={"eager": {}, "candidates": {}})
    assert View(manifest=view.manifest, certificate=older, budget=None).quiet_runs == ""


def test_what_is_out_of_tolerance_is_named(view):
    candidate = view.certificate.candidates["onnx_fp32"]
    agreement = candidate.agreement[0]
    assert view.over(agreement, candidate.tolerance) == set()
    off = agreement.model_copy(update={"relative_error": float("nan"), "top1_agreement": 0.0})
    assert view.over(off, candidate.tolerance) == {"relative_error", "top1_agreement"}
    assert view.over(off, None) == set()


def test_shapes_are_written_for_people(view):
    assert (batch_in_words("8"), batch_in_words("8x128")) == ("batch 8", "batch 8 × 128 tokens")
    spec = TensorSpec(name="x", dtype="uint8", shape=(Axis(name="batch", max=4), 3))
    assert view.shape_of(spec) == "batch 1–4 × 3"
    assert view.task == "image classification"
