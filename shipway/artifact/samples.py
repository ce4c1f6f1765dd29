"""The samples of an artifact: a few evaluation rows, and eager's outputs for them.

They travel with the artifact and in its archive, so that wherever a program runs, what it gives
there can be held against what it is certified to give.
"""

from math import log10

import numpy as np

from shipway.artifact.certificate import OutputMeasure
from shipway.artifact.measures import ROW_FACTOR, errors_of
from shipway.recipe import Tolerance

FOLDER = "samples"
NO_NOISE_DB = 999.0
"""Stands for an infinite ratio, which JSON cannot hold."""


def file_of(name: str) -> str:
    """Where an artifact keeps the sample rows of the input or output `name`, (rows, …)."""
    return f"{FOLDER}/{name}.npy"


def error_of(reference: np.ndarray, found: np.ndarray, measure: OutputMeasure) -> float:
    """How far outputs for the sample rows are from eager's, relative to the certified spread.

    The larger of the error over all rows and a ROW_FACTOR-th of the worst row's; NaN where a number
    is not finite, or if the shapes differ. Both arrays are (rows, …).
    """
    error, error_N = errors_of(reference, found, measure.kind, measure.spread)
    if measure.kind == "labels":
        return error
    return max(error, float(error_N.max()) / ROW_FACTOR)


def allowed_error(measure: OutputMeasure, tolerance: Tolerance) -> float:
    """The most that `error_of` may be."""
    if measure.kind == "labels":
        return 1 - tolerance.top1_agreement
    return tolerance.relative_error


def sqnr_db(relative_error: float) -> float:
    """The signal to quantization noise ratio in dB; NO_NOISE_DB without any noise."""
    return -20 * log10(relative_error) if relative_error > 0 else NO_NOISE_DB
