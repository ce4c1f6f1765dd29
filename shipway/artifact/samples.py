"""The samples of an artifact: a few evaluation rows, and eager's outputs for them.

They travel with the artifact and in its archive, so that wherever a program runs, what it gives
there can be held against what it is certified to give.
"""

from math import log10

import numpy as np

FOLDER = "samples"
NO_NOISE_DB = 999.0
"""Stands for an infinite ratio, which JSON cannot hold."""


def file_of(name: str) -> str:
    """Where an artifact keeps the sample rows of the input or output `name`, (rows, …)."""
    return f"{FOLDER}/{name}.npy"


def relative_error(reference: np.ndarray, found: np.ndarray) -> float:
    """||found - reference|| / ||reference||, over all rows together; NaN where a number is none."""
    reference = reference.astype(np.float64)
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))


def sqnr_db(relative_error: float) -> float:
    """The signal to quantization noise ratio in dB; NO_NOISE_DB without any noise."""
    return -20 * log10(relative_error) if relative_error > 0 else NO_NOISE_DB
