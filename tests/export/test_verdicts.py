"""Every reason that the checks give is explained."""

from collections.abc import Iterator

import numpy as np
import pytest
from torch import nn

from shipway.artifact.certificate import Candidate, Kernels, Latency
from shipway.artifact.manifest import Program, Requirements
from shipway.export import kernels
from shipway.export import verdicts as reasons
from shipway.export.choice import slower_than_fp32, why_over_budget
from shipway.export.losses import loss_of
from shipway.export.techniques import applicability
from shipway.export.verify import TOLERANCES, compare, measure_of, why_mixed, why_off
from shipway.runtime.choice import unsupported_reason


def _over_budget(int8: Candidate) -> Iterator[str]:
    """Of a program that loses much, of one that was never compared, and of one on few rows."""
    eager_NK = np.eye(4)[np.arange(40) % 4]
    for candidate_NK in (np.roll(eager_NK, 1, axis=1), eager_NK):
        loss = loss_of(eager_NK, candidate_NK, kind="scores")
        yield str(why_over_budget(int8.model_copy(update={"loss": loss}), 1.0))
    yield str(why_over_budget(int8, 1.0))


def reasons_given() -> list[str]:
    """What the checks themselves say, one of each kind."""
    tolerance = TOLERANCES["int8"]
    rows_NK = np.random.default_rng(0).normal(size=(400, 10))
    one_row = rows_NK.copy()
    one_row[7] *= -1
    tied = np.zeros((10, 3)) + [1.0, 0.99, 0.0] + np.arange(10)[:, None]

    def verdict(reference, outputs, batching=0.0):
        measure = measure_of("logits", reference, "scores", "logits")
        off = why_off((compare(reference, outputs, 1, measure),), (measure,), tolerance)
        return off or why_mixed(batching, 0.01)

    def latency(milliseconds: float) -> dict[str, dict[int, Latency]]:
        one = Latency(median_ms=milliseconds, low_ms=1, high_ms=2, runs=8)
        return {"1": {1: one}}

    fp32 = Candidate(
        verdict="passed",
        passed=True,
        format="onnx",
        runtime="onnxruntime",
        precision="fp32",
        latency=latency(1),
    )
    int8 = fp32.model_copy(update={"precision": "int8", "latency": latency(2)})
    given = [
        verdict(rows_NK, rows_NK * np.nan),
        verdict(rows_NK, -rows_NK),
        verdict(tied, tied[:, [1, 0, 2]]),
        verdict(rows_NK, one_row),
        verdict(rows_NK, rows_NK, batching=1.0),
        kernels.why_not_what_it_claims(Kernels(source="a log", ran={"fp32": 50}), "int8"),
        kernels.why_not_what_it_claims(Kernels(source="a log", ran={}), "int8"),
        slower_than_fp32({"fp32": fp32, "int8": int8}, "int8", ("1",)),
        *_over_budget(int8),
        "its process crashed",
        "it took longer than 900 seconds",
        "skipped: it is made from onnx_fp32, which is missing",
        "skipped: this processor has no bf16 arithmetic (avx512_bf16)",
        "skipped: the package openvino is not installed",
        "skipped: this host has no CUDA device",
        f"skipped: {applicability.linear(nn.Conv2d(1, 1, 1))}",
        f"skipped: {applicability.linear(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(1, 1)))}",
        f"skipped: {applicability.convolutional(nn.Linear(1, 1))}",
    ]
    assert all(given)
    return given


def test_every_reason_the_checks_give_is_explained_as_what_it_is():
    explained = [reasons.explain(each) for each in reasons_given()]
    generic = (reasons.explain("nobody foresaw this"), reasons.explain("skipped: nor this"))
    assert not [each for each in explained if each in generic]
    # Two kinds of wrong kernels are one, two of losses, three of another kind of model.
    assert len({each.title for each in explained}) == len(explained) - 4


@pytest.mark.parametrize(
    ("requires", "title"),
    [
        (Requirements(packages={"torch": "0.1"}), "Built with another version"),
        (Requirements(packages={"no-such-package": "1"}), "Built with another version"),
        (Requirements(machine="s390x"), "The processor lacks an instruction set"),
        (Requirements(cpu_flags=("no_such_flag",)), "The processor lacks an instruction set"),
    ],
)
def test_a_program_that_this_host_cannot_run_is_explained(requires, title):
    program = Program(
        file="programs/model.pt",
        format="torchscript",
        runtime="torch",
        precision="fp32",
        requires=requires,
        bytes=1,
        sha256="0" * 64,
    )
    reason = unsupported_reason(program)
    assert reason is not None
    # The verdict of a program that an artifact already has, and that of a candidate not built.
    assert reasons.explain(reason).title == title
    assert reasons.explain(f"skipped: {reason}").title == title
