"""Compares a program with eager where the evaluation rows are not: at other shapes and batch sizes,
and on rows that take other branches.

N = rows, K = numbers of a row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from shipway.artifact.certificate import OutputMeasure
from shipway.artifact.samples import allowed_error, error_of
from shipway.export.errors import BadInputs
from shipway.export.shapes import at_sizes, in_words, tried_sizes
from shipway.export.verify import batching_change, run_batch, run_in_batches, why_other_outputs
from shipway.recipe import Rows, TensorSpec, Tolerance
from shipway.runtime.backends.base import Program
from shipway.runtime.batches import Arrays, batches

FEW_ROWS_FACTOR = 2
"""How many times the error over all evaluation rows the few rows at another shape may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What eager returned at one combination of sizes, or for one row that takes a branch."""

    at: str
    """For messages: "with time = 7"."""
    arrays: Arrays
    outputs: Mapping[str, np.ndarray]
    """By name, each (N, …)."""


def run_elsewhere(
    eager: Program,
    arrays: Arrays,
    inputs: tuple[TensorSpec, ...],
    names: Sequence[str],
    branches: Rows | None = None,
) -> Iterator[Elsewhere]:
    """Runs eager at every combination of sizes to try, and on each row of `branches` alone.

    Raises BadInputs if an output is NaN or infinite.
    """
    places = [(in_words(sizes), at_sizes(arrays, inputs, sizes)) for sizes in tried_sizes(inputs)]
    if branches is not None:
        rows = batches(branches.arrays, inputs, 1)
        places += [(f"for branch row {row}", arrays) for row, arrays in enumerate(rows)]
    for at, given in places:
        outputs = dict(zip(names, eager.run(given), strict=True))
        for name, output in outputs.items():
            if not np.isfinite(output).all():
                raise BadInputs(
                    f"The module's output {name} is NaN or infinite {at}, which no answer may "
                    "contain. Narrow the bounds of the axis or leave the row out, or correct the "
                    "module."
                )
        yield Elsewhere(at=at, arrays=given, outputs=outputs)


def why_wrong_elsewhere(
    program: Program,
    tried: Sequence[Elsewhere],
    measures: Sequence[OutputMeasure],
    references: Mapping[str, np.ndarray],
    tolerance: Tolerance,
) -> str | None:
    """The first place at which a program's outputs are not eager's, or None.

    `references` are eager's outputs for the evaluation rows, which the measures are of.
    """
    for place in tried:
        at = place.at
        try:
            outputs = program.run(place.arrays)
        except Exception as error:
            return f"{at} it fails: {str(error).strip().splitlines()[0][:200]}"
        if reason := why_other_outputs(place.outputs, outputs):
            return f"{at} {reason}"
        for measure, output in zip(measures, outputs, strict=True):
            expected = place.outputs[measure.name]
            here = rescaled(measure, references[measure.name], expected)
            if reason := _why_off(here, expected, output, tolerance):
                return f"{at} {reason}"
    return None


def why_wrong_batch(
    program: Program,
    sizes: Sequence[int],
    evaluation: tuple[Arrays, tuple[TensorSpec, ...]],
    measures: Sequence[OutputMeasure],
    references: Mapping[str, np.ndarray],
    share: float,
) -> str | None:
    """The first batch size at which a row's outputs are not those that were verified, or None.

    `evaluation` are the evaluation rows and the inputs that they are for. The outputs in batches of
    the last size were compared with eager; `share` is by how much others may differ, see
    verify.batching_change.
    """
    arrays, inputs = evaluation
    verified = run_in_batches(program, arrays, inputs, sizes[-1])
    start = 0
    for size in sizes:
        # Other rows each time, so that all are used.
        places = (start + np.arange(size)) % len(arrays[0])
        start = int(places[-1]) + 1
        (batch,) = batches(tuple(array[places] for array in arrays), inputs, size)
        outputs = run_batch(program, batch, arrays, inputs)
        expected = [output[places] for output in verified]
        at = f"at batch {size}"
        if reason := why_other_outputs(dict(zip(references, expected, strict=True)), outputs):
            return f"{at} {reason}"
        _, reason = batching_change(references, [expected, outputs], measures, share)
        if reason:
            return f"{at} {reason}"
    return None


def rescaled(measure: OutputMeasure, reference: np.ndarray, expected: np.ndarray) -> OutputMeasure:
    """The measure for rows of another length: the same spread for each number."""
    rows, length = reference[:1].size, expected[:1].size
    if rows == length or measure.kind == "labels":
        return measure
    total = sqrt(sum(spread**2 for spread in measure.spread))
    return measure.model_copy(
        update={"kind": "scores", "spread": (total * sqrt(length / max(1, rows)),)}
    )


def _why_off(
    measure: OutputMeasure, expected: np.ndarray, output: np.ndarray, tolerance: Tolerance
) -> str | None:
    error = error_of(expected, output, measure)
    allowed = FEW_ROWS_FACTOR * allowed_error(measure, tolerance)
    if error <= allowed:
        return None
    if not np.isfinite(error):
        return f"its output {measure.name} has numbers that are not finite, where eager's are"
    return f"its output {measure.name} has a relative error of {error:.2g}, more than {allowed:.2g}"
