"""The proof before a promotion: the server's outputs for the certified samples."""

from typing import TYPE_CHECKING

from shipway.engines.errors import PredictionFailed
from shipway.engines.protocol import Engine
from shipway.releases.errors import NotPromoted

if TYPE_CHECKING:
    from shipway.archive.samples import Samples


def compare(
    engine: Engine, name: str, version: str, samples: "Samples", *, change: str = "promoted"
) -> str:
    """Sends each sample row in its own request and compares the outputs with the certified ones.

    Returns the result in words. Raises NotPromoted if they differ by more than the certificate
    allows. `change` is what the version was not then: promoted, registered.
    """
    # numpy takes half a second to import, and most commands compare nothing.
    import numpy as np

    from shipway.artifact.samples import allowed_error, error_of

    rows = len(next(iter(samples.inputs.values())))
    refused = f"{name} {version} was not {change}"
    answers = []
    for row in range(rows):
        inputs = {key: array[row : row + 1] for key, array in samples.inputs.items()}
        try:
            answers.append(engine.infer(name, inputs, version=version))
        except PredictionFailed as error:
            raise NotPromoted(
                f"{refused}: the request with sample {row} failed: {error}"
            ) from error
    program = answers[0].program
    tolerance = samples.tolerances.get(program)
    if tolerance is None:
        raise NotPromoted(
            f"{refused}: the answer came from the program {program!r}, which its certificate "
            "does not list. Export and package the model again."
        )
    errors: list[tuple[float, float]] = []
    for key, reference in samples.outputs.items():
        found = np.concatenate([answer.outputs[key] for answer in answers])
        off_by = error_of(reference, found, samples.measures[key])
        allowed = allowed_error(samples.measures[key], tolerance)
        if not off_by <= allowed:  # also true for NaN
            raise NotPromoted(
                f"{refused}: on {rows} samples its output {key} has a relative error of "
                f"{off_by:.2g}; its certificate allows {program} an error of {allowed:.2g}. Export "
                "the model on a host like this one."
            )
        errors.append((off_by, allowed))
    off_by, allowed = max(errors)
    return (
        f"{rows} samples match the certificate (relative error {off_by:.2g}, limit {allowed:.2g})"
    )
