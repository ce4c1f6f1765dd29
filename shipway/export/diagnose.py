"""Why a program's outputs differ from eager's: tests the program for the usual causes.

N = rows, K = outputs of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from shipway.runtime.batches import Arrays

SAME_AGAIN = 1e-5
"""Relative error between two runs on the same inputs that is still no difference: threads may add
numbers in another order each time."""
CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A program whose outputs are out of tolerance, and what they are compared with."""

    run: Callable[[Arrays], np.ndarray]
    """Inputs of N rows to outputs (N, K)."""
    inputs: Arrays
    reference_NK: np.ndarray
    allowed: float
    """The largest relative error in tolerance."""
    layers: int
    """How many convolutions eager runs, and linear layers if the runtime reports them."""
    layers_ran: int | None
    """How many of them the program runs; None if its runtime does not report it."""
    precision: str
    dynamic: bool
    """Whether it quantizes activations by the range of each batch."""


def cause_of(suspect: Suspect) -> str:
    """The cause in words, the most certain first; by elimination if no test finds one."""
    outputs_NK = suspect.run(suspect.inputs)
    if _distance(suspect.run(suspect.inputs), outputs_NK) > SAME_AGAIN:
        return (
            "two runs on the same inputs differ: a random layer, such as dropout, is still active"
        )
    nearest_N = [
        int(np.argmin(np.linalg.norm(suspect.reference_NK - row_K, axis=1))) for row_K in outputs_NK
    ]
    if (
        nearest_N != sorted(nearest_N)
        and _distance(outputs_NK, suspect.reference_NK[nearest_N]) <= suspect.allowed
    ):
        return (
            "its rows come back in another order: the first row has the outputs of row "
            f"{nearest_N[0]}"
        )
    if _takes_pixels(suspect.inputs):
        swapped = (np.ascontiguousarray(suspect.inputs[0][..., ::-1]),)
        if _distance(suspect.run(swapped), suspect.reference_NK) <= suspect.allowed:
            return (
                "its outputs are right for channels in the order blue, green, red, so it expects "
                "that order"
            )
    if suspect.layers_ran is not None and suspect.layers_ran < suspect.layers:
        return (
            f"it runs {suspect.layers_ran} of the {suspect.layers} convolutions and matrix "
            "products that eager runs"
        )
    if suspect.dynamic:
        return "quantizing the whole batch with one range is too coarse for some of its rows"
    if suspect.precision == "int8":
        return (
            "the ranges of its activations do not fit these inputs, its weights come from another "
            "checkpoint, or its runtime computes wrong results"
        )
    if suspect.precision != "fp32":
        return (
            f"{suspect.precision} is too coarse for this model, or its weights come from another "
            "checkpoint"
        )
    return "no layer is missing, so its weights come from another checkpoint"


def layers_run(
    module: nn.Module, run: Callable[[], object], kinds: tuple[type[nn.Module], ...]
) -> int:
    """The number of layers of these kinds that a run of the module executes."""
    count = 0

    def add_one(*_: object) -> None:
        nonlocal count
        count += 1

    hooks = [
        layer.register_forward_hook(add_one)
        for layer in module.modules()
        if isinstance(layer, kinds)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return count


def _distance(a_NK: np.ndarray, b_NK: np.ndarray) -> float:
    return float(np.linalg.norm(a_NK - b_NK) / np.linalg.norm(b_NK))


def _takes_pixels(inputs: Arrays) -> bool:
    return len(inputs) == 1 and inputs[0].ndim == 4 and inputs[0].shape[-1] == CHANNELS
