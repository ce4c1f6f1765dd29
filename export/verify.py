"""Is a program, as it lies on disk, still the model? Compared with eager fp32 on held-out inputs.

N = evaluation rows, K = outputs of a row.
"""

import numpy as np

from shipway.artifact.certificate import Agreement, Tolerance
from shipway.runtime.program import Program

TOLERANCES = {
    "fp32": Tolerance(relative_error=1e-4, top1_agreement=0.99),
    "int8": Tolerance(relative_error=0.25, top1_agreement=0.85),
}
"""fp32 programs differ by the order of additions alone. For int8, a relative error of 0.25 is a
signal 12 dB above the noise; correct int8 exports of this kind of network measured 0.1 to 0.15."""

BATCHING_TOLERANCE = {"fp32": 1e-4, "int8": 1e-4}
"""How much a row's outputs may change with the batch it rides in, relative to the largest."""


def run_in_batches(program: Program, rows: np.ndarray, size: int) -> np.ndarray:
    """The program's only output for all rows, (N, K), in batches of at most `size`."""
    batches = [program.run([rows[start : start + size]])[0] for start in range(0, len(rows), size)]
    return np.concatenate(batches)


def compare(reference_NK: np.ndarray, candidate_NK: np.ndarray, batch_size: int) -> Agreement:
    """How far a candidate's outputs are from eager's."""
    difference_NK = candidate_NK.astype(np.float64) - reference_NK
    return Agreement(
        batch_size=batch_size,
        max_abs_diff=float(np.abs(difference_NK).max()),
        relative_error=float(np.linalg.norm(difference_NK) / np.linalg.norm(reference_NK)),
        top1_agreement=float(np.mean(candidate_NK.argmax(1) == reference_NK.argmax(1))),
    )


def why_refused(
    agreements: tuple[Agreement, ...],
    tolerance: Tolerance,
    batching_max_abs_diff: float,
    batching_limit: float,
) -> str | None:
    """The first thing that is out of tolerance, in words, or None."""
    for each in agreements:
        at = f"at batch {each.batch_size}"
        if not np.isfinite(each.relative_error):
            return f"{at} its outputs are not finite numbers"
        if each.relative_error > tolerance.relative_error:
            return (
                f"{at} its outputs are off by {each.relative_error:.2g} of eager's, "
                f"more than {tolerance.relative_error:.2g}"
            )
        if each.top1_agreement < tolerance.top1_agreement:
            return (
                f"{at} it agrees with eager on {each.top1_agreement:.1%} of inputs, "
                f"less than {tolerance.top1_agreement:.1%}"
            )
    if batching_max_abs_diff > batching_limit:
        return (
            f"a row's outputs change by {batching_max_abs_diff:.2g} with the batch it rides in, "
            f"more than {batching_limit:.2g}"
        )
    return None
