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
    """Inputs of N rows to the first output, (N, …)."""
    inputs: Arrays
    reference: np.ndarray
    """Eager's, (N, …)."""
    allowed: float
    """The largest relative error in tolerance."""
    layers: int
    """How many convolutions eager runs, and linear layers if the runtime reports them."""
    layers_ran: int | None
    """How many of them the program runs; None if its runtime does not report it."""


def cause_of(suspect: Suspect) -> str:
    """What is certain about the difference, in words.

    A cause is named only if the program is right once that cause is taken away. Otherwise the words
    say where the outputs differ first, and how many layers ran.
    """
    outputs = suspect.run(suspect.inputs)
    same_shape = outputs.shape == suspect.reference.shape
    if same_shape and (cause := _proven_cause(suspect, outputs)):
        return cause
    facts = [_where(suspect.reference, outputs)]
    if suspect.layers_ran is not None and suspect.layers_ran < suspect.layers:
        facts.append(
            f"it runs {suspect.layers_ran} of the {suspect.layers} convolutions and matrix "
            "products that eager runs"
        )
    return "; ".join(facts)


def _proven_cause(suspect: Suspect, outputs: np.ndarray) -> str | None:
    if _distance(suspect.run(suspect.inputs), outputs) > SAME_AGAIN:
        return "two runs on the same inputs differ: something random, such as dropout, is active"
    if _distance(outputs, suspect.reference) <= suspect.allowed:
        return None  # these rows are right, and would be so without any repair
    reference_NK = suspect.reference.reshape(len(outputs), -1).astype(np.float64)
    outputs_NK = outputs.reshape(len(outputs), -1).astype(np.float64)
    nearest_N = [
        int(np.argmin(np.linalg.norm(reference_NK - row_K, axis=1))) for row_K in outputs_NK
    ]
    if (
        nearest_N != sorted(nearest_N)
        and _distance(outputs_NK, reference_NK[nearest_N]) <= suspect.allowed
    ):
        return (
            "its rows come back in another order: the first row has the outputs of row "
            f"{nearest_N[0]}"
        )
    if _takes_pixels(suspect.inputs):
        swapped = (np.ascontiguousarray(suspect.inputs[0][..., ::-1]),)
        if _distance(suspect.run(swapped), suspect.reference) <= suspect.allowed:
            return (
                "its outputs are right for channels in the order blue, green, red, so it expects "
                "that order"
            )
    return None


def _where(reference: np.ndarray, outputs: np.ndarray) -> str:
    """The first row that is off, and its number that is off most."""
    if outputs.shape != reference.shape:
        return f"its outputs have shape {outputs.shape}, and eager's {reference.shape}"
    difference_NK = np.abs(outputs.astype(np.float64) - reference.astype(np.float64)).reshape(
        len(reference), -1
    )
    off_N = difference_NK.max(axis=1)
    row = int(np.argmax(off_N > off_N.max() / 2))
    column = int(difference_NK[row].argmax())
    ours, eagers = (each.reshape(len(each), -1)[row, column] for each in (outputs, reference))
    return f"in row {row}, number {column} is {ours:.4g} and eager's is {eagers:.4g}"


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


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    size = float(np.linalg.norm(b.astype(np.float64).ravel()))
    return float(np.linalg.norm((a.astype(np.float64) - b).ravel())) / (size or 1.0)


def _takes_pixels(inputs: Arrays) -> bool:
    return len(inputs) == 1 and inputs[0].ndim == 4 and inputs[0].shape[-1] == CHANNELS
