"""The proof before a promotion: the server's outputs for the certified samples."""

from typing import TYPE_CHECKING

from shipway.engines.errors import PredictionFailed
from shipway.engines.protocol import Engine
from shipway.releases.errors import NotPromoted

if TYPE_CHECKING:
    from shipway.archive.samples import Samples


def compare(engine: Engine, name: str, version: str, samples: "Samples") -> str:
    """Sends each sample row in its own request and compares the outputs with the certified ones.

    Returns the result in words. Raises NotPromoted if they differ by more than the certificate
    allows.
    """
    # numpy takes half a second to import, and most commands compare nothing.
    import numpy as np

    from shipway.artifact.samples import relative_error

    rows = len(next(iter(samples.inputs.values())))
    refused = f"{name} {version} was not promoted"
    answers = []
    for row in range(rows):
        inputs = {key: array[row : row + 1] for key, array in samples.inputs.items()}
        try:
            answers.append(engine.infer(name, inputs, version=version))
        except PredictionFailed as error:
            raise NotPromoted(f"{refused}: its sample {row} got no answer: {error}") from error
    program = answers[0].program
    tolerance = samples.tolerances.get(program)
    if tolerance is None:
        raise NotPromoted(f"{refused}: its certificate has no program {program!r}, which answered.")
    off_by = max(
        relative_error(reference, np.concatenate([answer.outputs[key] for answer in answers]))
        for key, reference in samples.outputs.items()
    )
    if not off_by <= tolerance:  # also true for NaN
        raise NotPromoted(
            f"{refused}: on {rows} samples its outputs are off by {off_by:.2g} of eager's; its "
            f"certificate allows {program} {tolerance:.2g}."
        )
    return f"{rows} samples answered as certified (off by {off_by:.2g}, {tolerance:.2g} allowed)"
