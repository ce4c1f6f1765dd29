"""Arrays over the wire in binary, as a client of the Open Inference Protocol v2 has them."""

import json
from collections.abc import Mapping
from math import prod

import numpy as np

from shipway.engines.errors import PredictionFailed
from shipway.payloads.tensors import DATATYPE_OF, DATATYPES
from shipway.serving.oip import HEADER_LENGTH


def pack(inputs: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a request for all outputs."""
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
    """The outputs in a reply, by name; raises PredictionFailed for what is none."""
    try:
        place = int(headers[HEADER_LENGTH])
        outputs = {}
        for each in json.loads(body[:place])["outputs"]:
            dtype = np.dtype(DATATYPES[each["datatype"]])
            flat = np.frombuffer(body, dtype, prod(each["shape"]), place)
            outputs[each["name"]] = flat.reshape(each["shape"])
            place += flat.nbytes
    except (ValueError, KeyError, TypeError) as error:
        raise PredictionFailed(
            f"The answer is not v2 tensors in binary: {error!r}", code=502, type="NotTensors"
        ) from error
    return outputs
