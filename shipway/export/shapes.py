"""Shapes at which programs are compared with eager beside those of the evaluation rows.

A tracer may fix the size of an axis, or the number of steps of a loop over it. So every dynamic
axis is tried at its bounds and at sizes between them that are no multiple of anything.

N = rows.
"""

from collections.abc import Mapping, Sequence
from math import isqrt

import numpy as np

from shipway.export.errors import BadInputs
from shipway.recipe import Axis, TensorSpec
from shipway.runtime.batches import Arrays, is_text, shaped

ROWS = 3
"""Rows of a batch at each of these shapes."""
MOST_NUMBERS = 2**24
"""A shape whose inputs hold more numbers is tried with one row; one of four times as many is not
tried, since eager may need hours or all memory for it."""

Sizes = Mapping[str, int]
"""The size of each dynamic axis but the batch, by its name."""


def dynamic_axes(inputs: Sequence[TensorSpec]) -> dict[str, Axis]:
    """The dynamic axes but the batch, by name."""
    return {axis.name: axis for spec in inputs for axis in spec.shape[1:] if isinstance(axis, Axis)}


def tried_sizes(inputs: Sequence[TensorSpec]) -> list[Sizes]:
    """The combinations to try: all axes at their minimum, at two primes, at their maximum.

    Axes of the same bounds get different primes. Empty if no axis but the batch is dynamic.
    """
    axes = dynamic_axes(inputs)
    if not axes:
        return []
    tried: list[Sizes] = [{name: axis.min for name, axis in axes.items()}]
    for share in (1 / 3, 2 / 3):
        taken: set[int] = set()
        sizes = {}
        for name, axis in axes.items():
            sizes[name] = _prime_near(axis, axis.min + round(share * (axis.max - axis.min)), taken)
            taken.add(sizes[name])
        tried.append(sizes)
    tried.append({name: axis.max for name, axis in axes.items()})
    tried = [sizes for index, sizes in enumerate(tried) if sizes not in tried[:index]]
    return [sizes for sizes in tried if _numbers(inputs, sizes) <= 4 * MOST_NUMBERS]


def in_words(sizes: Sizes) -> str:
    """Sizes for a message: "with time = 7"."""
    return "with " + ", ".join(f"{name} = {size}" for name, size in sizes.items())


def at_sizes(arrays: Arrays, inputs: Sequence[TensorSpec], sizes: Sizes) -> Arrays:
    """A few of the rows, with axes of these sizes: cut, or repeated from their beginning.

    Texts consist of tokens alone, without padding.
    """
    rows = 1 if _numbers(inputs, sizes) > MOST_NUMBERS else min(ROWS, _most_rows(inputs))
    if is_text(tuple(inputs)):
        (length,) = sizes.values()
        return shaped(arrays, tuple(inputs), rows, length)
    return tuple(
        _resized(array[:rows], spec, sizes) for array, spec in zip(arrays, inputs, strict=True)
    )


def described_outputs(
    names: Sequence[str],
    batch: Axis,
    inputs: Sequence[TensorSpec],
    found: Sequence[tuple[Sizes, Sequence[np.ndarray]]],
) -> tuple[TensorSpec, ...]:
    """The outputs' dtypes and shapes, from what eager returned at several sizes of the axes.

    An axis that has the size of an input's axis every time is that axis; another one that varies is
    named after its output. Raises BadInputs for outputs whose number of axes varies.
    """
    return tuple(
        TensorSpec(
            name=name,
            dtype=str(found[0][1][index].dtype),
            shape=(
                batch,
                *_axes(
                    name, inputs, [(sizes, outputs[index].shape[1:]) for sizes, outputs in found]
                ),
            ),
        )
        for index, name in enumerate(names)
    )


def _axes(
    name: str,
    inputs: Sequence[TensorSpec],
    found: Sequence[tuple[Sizes, tuple[int, ...]]],
) -> list[int | Axis]:
    if len({len(shape) for _, shape in found}) > 1:
        shapes = " and ".join(sorted({str(shape) for _, shape in found}))
        raise BadInputs(
            f"The rows of the module's output {name} have the shapes {shapes}. Return the same "
            "number of axes for every input."
        )
    known = dynamic_axes(inputs)
    axes: list[int | Axis] = []
    for index in range(len(found[0][1])):
        lengths = [shape[index] for _, shape in found]
        if len(set(lengths)) == 1:
            axes.append(lengths[0])
            continue
        same = [
            axis
            for axis in known.values()
            if all(shape[index] == sizes.get(axis.name) for sizes, shape in found)
        ]
        own = Axis(name=f"{name}_{index + 1}", min=max(1, min(lengths)), max=max(lengths))
        axes.append(same[0] if same else own)
    return axes


def sizes_of(arrays: Arrays, inputs: Sequence[TensorSpec]) -> Sizes:
    """The sizes that the dynamic axes of these rows have."""
    return {
        axis.name: array.shape[index]
        for array, spec in zip(arrays, inputs, strict=True)
        for index, axis in enumerate(spec.shape)
        if index > 0 and isinstance(axis, Axis)
    }


def _resized(array: np.ndarray, spec: TensorSpec, sizes: Sizes) -> np.ndarray:
    for index, axis in enumerate(spec.shape):
        if index > 0 and isinstance(axis, Axis):
            places = np.arange(sizes[axis.name]) % array.shape[index]
            array = np.take(array, places, axis=index)
    return np.ascontiguousarray(array)


def _numbers(inputs: Sequence[TensorSpec], sizes: Sizes) -> int:
    """How many numbers the inputs of ROWS rows hold."""
    total = 0
    for spec in inputs:
        numbers = ROWS
        for axis in spec.shape[1:]:
            numbers *= sizes[axis.name] if isinstance(axis, Axis) else axis
        total += numbers
    return total


def _most_rows(inputs: Sequence[TensorSpec]) -> int:
    batch = inputs[0].shape[0]
    return batch.max if isinstance(batch, Axis) else batch


def _prime_near(axis: Axis, wanted: int, taken: set[int]) -> int:
    """The prime within the bounds that is nearest to `wanted`; any free size if there is none."""
    near = range(max(axis.min, wanted - 500), min(axis.max, wanted + 500) + 1)
    within = sorted(near, key=lambda size: abs(size - wanted))
    free = [size for size in within if size not in taken] or within
    return next((size for size in free if _is_prime(size)), free[0])


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))
