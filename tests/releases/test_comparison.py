"""The proof before a promotion, against a server that answers as it is told here."""

from collections.abc import Mapping

import numpy as np
import pytest

from shipway.archive.samples import Samples
from shipway.artifact.certificate import OutputMeasure
from shipway.artifact.measures import spread_of
from shipway.engines.errors import PredictionFailed
from shipway.engines.protocol import Inferred
from shipway.recipe import Tolerance
from shipway.releases.comparison import compare
from shipway.releases.errors import NotPromoted

OUTPUTS = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
SAMPLES = Samples(
    inputs={"x": np.zeros((2, 1), np.float32)},
    outputs={"y": OUTPUTS},
    measures={"y": OutputMeasure(name="y", kind="scores", spread=spread_of(OUTPUTS, "scores"))},
    tolerances={"onnx": Tolerance(relative_error=0.01)},
)


class Answers:
    """The part of an engine that a comparison asks: one row of `outputs` after the other."""

    def __init__(self, outputs: np.ndarray, program: str = "onnx") -> None:
        self._rows = iter(outputs)
        self._program = program

    def infer(
        self, name: str, inputs: Mapping[str, np.ndarray], *, version: str | None = None
    ) -> Inferred:
        assert inputs["x"].shape == (1, 1)
        try:
            return Inferred(outputs={"y": next(self._rows)[None]}, program=self._program)
        except StopIteration:
            raise PredictionFailed("It is out of answers.") from None


def test_outputs_within_the_tolerance_are_counted_and_measured():
    said = compare(Answers(OUTPUTS * 1.001), "echo", "1", SAMPLES)
    assert said.startswith("2 samples match the certificate")


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (Answers(OUTPUTS * 1.1), "its certificate allows"),
        (Answers(OUTPUTS * np.nan), "its certificate allows"),
        (Answers(OUTPUTS * 0 + OUTPUTS.mean()), "its certificate allows"),
        (Answers(OUTPUTS[:1]), "sample 1 .*It is out of answers"),
        (Answers(OUTPUTS, program="other"), "program 'other', which its certificate does not list"),
    ],
    ids=["too far off", "no numbers", "constant", "no answer", "another program"],
)
def test_anything_else_is_not_promoted(engine, reason):
    with pytest.raises(NotPromoted, match=f"echo 1 was not promoted: .*{reason}"):
        compare(engine, "echo", "1", SAMPLES)
