"""Usual causes are told apart on programs that are broken in one way."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn, ones

from shipway.export.diagnose import Suspect, cause_of, layers_run
from shipway.runtime.batches import Arrays

INPUTS = (np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3)).astype(np.uint8),)
REFERENCE_NK = INPUTS[0].reshape(4, -1).astype(np.float64)


def suspect(run: Callable[[Arrays], np.ndarray], **changes: Any) -> Suspect:
    fields: dict[str, Any] = {"layers": 3, "layers_ran": 3}
    return Suspect(
        run=run, inputs=INPUTS, reference=REFERENCE_NK, allowed=0.01, **(fields | changes)
    )


def flat(arrays: Arrays) -> np.ndarray:
    return arrays[0].reshape(4, -1).astype(np.float64)


def wrong(arrays: Arrays) -> np.ndarray:
    return -flat(arrays)


@pytest.mark.parametrize(
    ("run", "changes", "cause"),
    [
        (
            lambda arrays: np.random.default_rng().normal(size=(4, 12)),
            {},
            "dropout, is active",
        ),
        (
            lambda arrays: flat(arrays)[::-1],
            {},
            "another order: the first row has the outputs of row 3",
        ),
        (lambda arrays: flat((arrays[0][..., ::-1],)), {}, "order blue, green, red"),
        (wrong, {"layers_ran": 2}, "it runs 2 of the 3 convolutions"),
        (wrong, {}, "in row 0, number 11 is -233 and eager's is 233"),
        (lambda arrays: flat(arrays)[:, :2], {}, "shape (4, 2), and eager's (4, 12)"),
    ],
)
def test_what_is_certain_is_said(run, changes, cause):
    assert cause in cause_of(suspect(run, **changes))


def test_no_cause_is_guessed():
    """Other weights, and a reversed order of channels with other weights besides."""
    for run in (wrong, lambda arrays: -flat((arrays[0][..., ::-1],))):
        said = cause_of(suspect(run))
        assert said.startswith("in row ") and ";" not in said


def test_a_layer_that_runs_twice_counts_twice_and_no_hook_is_left():
    linear = nn.Linear(2, 2)
    module = nn.Sequential(linear, nn.ReLU(), linear)
    assert layers_run(module, lambda: module(ones(1, 2)), (nn.Linear,)) == 2
    assert not linear._forward_hooks
