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
    fields: dict[str, Any] = {"layers": 3, "layers_ran": 3, "precision": "fp32", "dynamic": False}
    return Suspect(
        run=run, inputs=INPUTS, reference_NK=REFERENCE_NK, allowed=0.01, **(fields | changes)
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
            "dropout, is still active",
        ),
        (
            lambda arrays: flat(arrays)[::-1],
            {},
            "another order: the first row has the outputs of row 3",
        ),
        (lambda arrays: flat((arrays[0][..., ::-1],)), {}, "order blue, green, red"),
        (wrong, {"layers_ran": 2}, "it runs 2 of the 3 convolutions"),
        (wrong, {"precision": "int8", "dynamic": True}, "the whole batch with one range"),
        (wrong, {"precision": "int8"}, "ranges of its activations"),
        (wrong, {"precision": "bf16"}, "bf16 is too coarse"),
        (wrong, {}, "its weights come from another checkpoint"),
    ],
)
def test_each_cause_is_named(run, changes, cause):
    assert cause in cause_of(suspect(run, **changes))


def test_a_layer_that_runs_twice_counts_twice_and_no_hook_is_left():
    linear = nn.Linear(2, 2)
    module = nn.Sequential(linear, nn.ReLU(), linear)
    assert layers_run(module, lambda: module(ones(1, 2)), (nn.Linear,)) == 2
    assert not linear._forward_hooks
