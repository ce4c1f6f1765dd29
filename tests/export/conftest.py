"""What several tests of the export report share."""

import pytest

from shipway.artifact.certificate import Candidate, Certificate, LayerSensitivity
from shipway.artifact.manifest import Manifest
from shipway.export.pipeline import Exported


def refused(verdict: str) -> Candidate:
    return Candidate(
        verdict=verdict, passed=False, format="onnx", runtime="onnxruntime", precision="int8"
    )


@pytest.fixture(scope="module")
def eventful(tiny: Exported) -> tuple[Manifest, Certificate]:
    """The tiny export with everything that a report may have to tell of."""
    left_out = {
        "crashed": refused("its process crashed"),
        "skipped_one": refused("skipped: this host has no C++ compiler (g++)"),
        "strange": refused("KeyError: 'nobody foresaw this'"),
    }
    int8 = tiny.certificate.candidates["onnx_int8"]
    slow = int8.model_copy(
        update={
            "passed": False,
            "verdict": "it takes 9 ms on this host, but onnx_fp32 in fp32 takes only 3 ms",
        }
    )
    layers = tuple(
        LayerSensitivity(
            layer=f"features.{n}", operator="Conv", relative_error=0.1 / n, sqnr_db=20 + n
        )
        for n in range(1, 20)
    )
    certificate = tiny.certificate.model_copy(
        update={
            "candidates": tiny.certificate.candidates | left_out | {"slow": slow},
            "sensitivity": layers,
        }
    )
    return tiny.manifest, certificate
