"""What is computed for all requests of a batch at once: a call of NumPy costs more than a row.

R = rows of all requests of a batch.
"""

from collections.abc import Sequence

import numpy as np

from shipway.errors import ShipwayError
from shipway.payloads.errors import InternalError, NotFinite
from shipway.runtime.model import RowResult
from shipway.serving.statuses import status_of


def stacked(results: Sequence[RowResult]) -> tuple[np.ndarray, ...] | None:
    """Each output of all rows, (R, …). None if a row failed, or if rows have other shapes."""
    if any(result.error is not None for result in results):
        return None
    if len(results) == 1:
        return tuple(output[None] for output in results[0].outputs)
    columns = list(zip(*(result.outputs for result in results), strict=True))
    for column in columns:
        if any(output.shape != column[0].shape for output in column):
            return None
    return tuple(np.stack(column) for column in columns)


def padded(results: Sequence[RowResult]) -> tuple[np.ndarray, ...]:
    """Each output of all rows, (R, …), with zeros behind those that are shorter than others."""
    columns = zip(*(result.outputs for result in results), strict=True)
    return tuple(_padded(column) for column in columns)


def _padded(column: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {each.shape for each in column}
    if len(shapes) == 1:
        return np.stack(column)
    found = np.zeros((len(column), *map(max, *shapes)), column[0].dtype)
    for row, each in zip(found, column, strict=True):
        row[tuple(slice(size) for size in each.shape)] = each
    return found


def finite_rows(outputs_R: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """Which rows have finite outputs only, (R,)."""
    finite_R = np.ones(rows, bool)
    for output_R in outputs_R:
        if output_R.dtype.kind == "f":
            finite_R &= np.isfinite(output_R).reshape(rows, -1).all(axis=1)
    return finite_R


def error_of(results: Sequence[RowResult]) -> ShipwayError | None:
    """The error of the last row that failed; None if every row has finite outputs."""
    error: ShipwayError | None = None
    for result in results:
        if isinstance(result.error, ShipwayError) and status_of(result.error):
            error = result.error
        elif result.error is not None:
            error = InternalError("The model failed on this input. The server's log has the cause.")
        elif not all(np.isfinite(output).all() for output in result.outputs):
            error = NotFinite(
                "The model's outputs for this input are infinite or NaN, because the input "
                "contains values that are too large or too small. Send other values."
            )
    return error
