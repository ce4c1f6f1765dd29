"""Why a program's outputs are not eager's: the usual causes, each tried on the program itself.

N = rows, K = outputs of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from shipway.export.batches import Arrays

SAME_AGAIN = 1e-5
"""How much the outputs of two runs on the same inputs may differ, relative to their length:
threads may add in another order each time."""
CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A program whose outputs are off, and what they are held against."""

    run: Callable[[Arrays], np.ndarray]
    """Inputs of N rows to outputs (N, K)."""
    inputs: Arrays
    reference_NK: np.ndarray
    allowed: float
    """The relative error that would have been accepted."""
    layers: int
    """Convolutions that eager runs, and its linear layers where the runtime shows those too."""
    layers_ran: int
    """Of these, how many the program runs."""
    precision: str
    dynamic: bool
    """Whether it quantizes by the range of each batch."""


def cause_of(suspect: Suspect) -> str:
    """The cause in words, the surest first; by elimination if none of them shows itself."""
    outputs_NK = suspect.run(suspect.inputs)
    if _distance(suspect.run(suspect.inputs), outputs_NK) > SAME_AGAIN:
        return "two runs on the same inputs differ, so a random layer, such as dropout, is still on"
    nearest_N = [
        int(np.argmin(np.linalg.norm(suspect.reference_NK - row_K, axis=1))) for row_K in outputs_NK
    ]
    if (
        nearest_N != sorted(nearest_N)
        and _distance(outputs_NK, suspect.reference_NK[nearest_N]) <= suspect.allowed
    ):
        return f"it answers rows in another order, the first with row {nearest_N[0]}'s outputs"
    if _takes_pixels(suspect.inputs):
        swapped = (np.ascontiguousarray(suspect.inputs[0][..., ::-1]),)
        if _distance(suspect.run(swapped), suspect.reference_NK) <= suspect.allowed:
            return "given blue, green, red it is right, so it takes its channels in that order"
    if suspect.layers_ran < suspect.layers:
        return (
            f"of the {suspect.layers} convolutions and matrix products that eager runs, it runs "
            f"{suspect.layers_ran}"
        )
    if suspect.dynamic:
        return "one range for a whole batch is too coarse for some of its rows"
    if suspect.precision == "int8":
        return (
            "its activations' ranges do not fit these inputs, its weights are other ones, or its "
            "runtime computes it wrongly"
        )
    if suspect.precision != "fp32":
        return f"{suspect.precision} is too coarse for this model, or its weights are other ones"
    return "its layers are all there, so it was made from other weights than this checkpoint's"


def layers_run(
    module: nn.Module, run: Callable[[], object], kinds: tuple[type[nn.Module], ...]
) -> int:
    """How many layers of these kinds a run of the module goes through."""
    count = 0

    def seen(*_: object) -> None:
        nonlocal count
        count += 1

    hooks = [
        each.register_forward_hook(seen) for each in module.modules() if isinstance(each, kinds)
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
