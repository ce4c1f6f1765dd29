"""Arrays as binary tensors of the Open Inference Protocol v2, for its clients."""

import json
from collections.abc import Mapping
from math import prod

import numpy as np

from shipway.engines.errors import PredictionFailed
from shipway.payloads.request import HEADER_LENGTH
from shipway.payloads.tensors import DATATYPE_OF, DATATYPES


def pack(inputs: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, str]]:
    """The body and headers of a request with these inputs, for all outputs in binary."""
    arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "datatype": DATATYPE_OF[str(array.dtype)],
                    "shape": list(array.shape),
                    "parameters": {"binary_data_size": array.nbytes},
                }
                for name, array in arrays.items()
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return b"".join([header, *(array.tobytes() for array in arrays.values())]), {
        "content-type": "application/octet-stream",
        HEADER_LENGTH: str(len(header)),
    }


def unpack(body: bytes, headers: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The outputs in a reply, by name. Raises PredictionFailed for any other body."""
    try:
        offset = int(headers[HEADER_LENGTH])
        outputs = {}
        for output in json.loads(body[:offset])["outputs"]:
            dtype = np.dtype(DATATYPES[output["datatype"]])
            flat = np.frombuffer(body, dtype, prod(output["shape"]), offset)
            outputs[output["name"]] = flat.reshape(output["shape"])
            offset += flat.nbytes
    except (ValueError, KeyError, TypeError) as error:
        raise PredictionFailed(
            f"The reply is not a v2 response with binary tensors: {error!r}",
            code=502,
            type="NotTensors",
        ) from error
    return outputs
