"""What is made of measurements that other programs disturbed."""

import pytest

from shipway.artifact.certificate import Basis, Latency
from shipway.export.noise import Cost, comparable, notice, preferred, runs_in_words, sound_threads

SHAPES = ("1", "8")


def latency(basis: Basis | None, *, runs: int = 32, quiet: int | None = 30) -> Latency:
    return Latency(median_ms=2.0, low_ms=1.0, high_ms=3.0, runs=runs, quiet_runs=quiet, basis=basis)


def by_shape(**by_threads: Latency) -> dict[str, dict[int, Latency]]:
    return {
        shape: {int(key.removeprefix("t")): each for key, each in by_threads.items()}
        for shape in SHAPES
    }


QUIET, PROCESSOR, ALL = (
    latency("quiet runs"),
    latency("processor time", quiet=2),
    latency("all runs", quiet=0),
)


def test_numbers_of_threads_at_which_a_contender_or_eager_was_disturbed_are_left_out():
    sound = by_shape(t1=PROCESSOR, t2=QUIET)
    disturbed = by_shape(t1=PROCESSOR, t2=ALL)
    for names in ({"a": sound, "eager": disturbed}, {"a": disturbed, "eager": sound}):
        assert sound_threads(names, SHAPES, "eager") == {1}
        kept = comparable(names, SHAPES, "eager")
        assert all(kept[name][shape].keys() == {1} for name in names for shape in SHAPES)


def test_a_program_that_was_left_out_early_spoils_nothing():
    early = by_shape(t2=latency("all runs", runs=8, quiet=0))
    names = {"a": by_shape(t1=QUIET, t2=QUIET), "eager": by_shape(t2=QUIET), "slow": early}
    assert sound_threads(names, SHAPES, "eager") == {1, 2}
    assert comparable(names, SHAPES, "eager") == names


def test_if_nothing_is_sound_everything_is_kept():
    names = {"a": by_shape(t1=ALL, t2=ALL), "eager": by_shape(t2=ALL)}
    assert comparable(names, SHAPES, "eager") == names


def test_older_certificates_count_as_sound():
    old = Latency(median_ms=2.0, low_ms=1.0, high_ms=3.0, runs=32)
    assert old.sound and Cost.of(old) == Cost(value=2.0, low=2.0, high=2.0)
    assert runs_in_words([old]) == ""


@pytest.mark.parametrize(
    ("lost", "best"),
    [
        ({"fast": 4.0, "near": 0.0, "far": 0.0}, "near"),
        ({"fast": 0.0, "near": 0.0, "far": 0.0}, "fast"),
        # A thousandth of a point is rounding.
        ({"fast": 0.001, "near": 0.0, "far": 0.0}, "fast"),
        ({"fast": -1.0, "near": -2.0, "far": 0.0}, "fast"),
    ],
)
def test_among_those_not_told_apart_the_one_that_loses_least_is_preferred(lost, best):
    costs = {
        "fast": Cost(value=1.0, low=0.9, high=1.1),
        "near": Cost(value=1.15, low=1.05, high=1.3),
        "far": Cost(value=2.0, low=1.8, high=2.2),
    }
    found, others = preferred(costs, lost.__getitem__)
    assert found == best
    assert {found, *others} == {"fast", "near"}


def test_the_notice_says_how_many_runs_were_quiet_and_what_counts(tiny):
    chosen = tiny.manifest.chosen

    def certificate(one: Latency):
        shapes = {shape: {1: one} for shape in tiny.certificate.shapes}
        candidates = tiny.certificate.candidates
        update = {chosen: candidates[chosen].model_copy(update={"latency": shapes})}
        return tiny.certificate.model_copy(
            update={"eager": shapes, "candidates": candidates | update}
        )

    assert notice(certificate(QUIET), chosen) is None
    assert notice(certificate(latency(None, quiet=None)), chosen) is None
    words = notice(certificate(PROCESSOR), chosen)
    assert "8 of 128 runs quiet" in words and "bounds" in words and "--rechoose" in words
    assert "speedups may be wrong" in notice(certificate(ALL), chosen)
