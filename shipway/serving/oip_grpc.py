"""The Open Inference Protocol over gRPC: its messages to v2 requests as `oip` reads, and back.

A message becomes JSON followed by the tensors' bytes, which is what clients over HTTP send, so both
protocols are read and refused by the same code. Tensors of a reply are raw bytes.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from google.protobuf.message import DecodeError

from shipway.payloads.errors import BadRequest, BadTensor
from shipway.payloads.request import BINARY, HEADER_LENGTH, Request
from shipway.payloads.tensors import DATATYPES
from shipway.serving.generated import open_inference_grpc_pb2 as messages
from shipway.serving.grpc_calls import Call, Described
from shipway.serving.oip import MOST_NAMED
from shipway.serving.replies import Reply

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""The field of InferTensorContents by datatype. FP16 has none: it is sent raw."""


class ModelInfer:
    """The call ModelInfer."""

    def request(self, message: bytes, headers: Mapping[str, str], identity: str) -> Request:
        """See `Call`."""
        asked = parsed(messages.ModelInferRequest, message)
        body, length = as_http(asked)
        kept = {name: value for name, value in headers.items() if name != "content-type"}
        return Request(
            {"body": body},
            kept | {HEADER_LENGTH: str(length), "content-type": BINARY},
            identity,
        )

    def reply(self, reply: Reply) -> bytes:
        """See `Call`."""
        return as_message(reply)


class ModelMetadata:
    """The call ModelMetadata, which is answered by what a `Service` says of itself."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        """`metadata` is that of `oip.metadata`."""
        self._message: bytes = messages.ModelMetadataResponse(**metadata).SerializeToString()

    def request(self, message: bytes, headers: Mapping[str, str], identity: str) -> Described:
        """See `Call`."""
        del message, headers, identity
        return Described(self._message)

    def reply(self, reply: Reply) -> bytes:
        """Not called."""
        raise NotImplementedError


class ModelReady(ModelMetadata):
    """The call ModelReady: a worker that can answer is ready."""

    def __init__(self) -> None:
        self._message = messages.ModelReadyResponse(ready=True).SerializeToString()


SERVICES = (
    "/inference.GRPCInferenceService",
    "/org.pytorch.serve.grpc.openinference.GRPCInferenceService",
)
"""The protocol's own service, and what TorchServe calls it."""
HEALTH = "/grpc.health.v1.Health/Check"
"""Its answer, SERVING, has the bytes of a ModelReadyResponse: field 1 is 1."""


def calls(metadata: Mapping[str, Any]) -> dict[str, Call]:
    """The calls that a worker answers, by their paths. `metadata` is that of `oip.metadata`."""
    methods: dict[str, Call] = {
        "ModelInfer": ModelInfer(),
        "ModelMetadata": ModelMetadata(metadata),
        "ModelReady": ModelReady(),
    }
    found = {
        f"{service}/{method}": call for service in SERVICES for method, call in methods.items()
    }
    return found | {HEALTH: ModelReady()}


def parsed(kind: Any, message: bytes) -> Any:
    """A message of a kind. Raises BadRequest."""
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise BadRequest(
            f"The message is not a {kind.DESCRIPTOR.name}: {error}. Use the client's own stubs."
        ) from error


def as_http(asked: Any) -> tuple[bytes, int]:
    """The body of a v2 request over HTTP, and the length of its JSON part. Raises BadTensor."""
    if max(len(asked.inputs), len(asked.outputs), len(asked.raw_input_contents)) > MOST_NAMED:
        raise BadTensor(
            f"The request has more than {MOST_NAMED} inputs or outputs. Send what the model has."
        )
    raw = list(asked.raw_input_contents)
    if raw and len(raw) != len(asked.inputs):
        raise BadTensor(
            f"The request has {len(asked.inputs)} inputs and {len(raw)} raw_input_contents. Send "
            "all inputs raw, or none."
        )
    tail = raw or [_bytes_of(tensor) for tensor in asked.inputs]
    header = {
        "id": asked.id,
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": {"binary_data_size": len(data)},
            }
            for tensor, data in zip(asked.inputs, tail, strict=True)
        ],
        "outputs": [
            {
                "name": output.name,
                "parameters": _values(output.parameters) | {"binary_data": True},
            }
            for output in asked.outputs
        ],
        "parameters": {"binary_data_output": True},
    }
    if not asked.id:
        del header["id"]
    if not asked.outputs:
        del header["outputs"]
    text = orjson.dumps(header)
    return b"".join([text, *tail]), len(text)


def as_message(reply: Reply) -> bytes:
    """The message of a reply whose tensors are all in binary."""
    length = int(reply.headers["Inference-Header-Content-Length"])
    said = orjson.loads(reply.body[:length])
    answer = messages.ModelInferResponse(
        model_name=said["model_name"], model_version=said["model_version"], id=said.get("id", "")
    )
    for name, value in said.get("parameters", {}).items():
        _set(answer.parameters[name], value)
    place = length
    for output in said["outputs"]:
        answer.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        size = output["parameters"]["binary_data_size"]
        answer.raw_output_contents.append(reply.body[place : place + size])
        place += size
    message: bytes = answer.SerializeToString()
    return message


def _bytes_of(tensor: Any) -> bytes:
    """A tensor's typed contents as the bytes that they have in the binary extension."""
    name, datatype = tensor.name[:128], tensor.datatype[:40]
    if datatype == "BYTES":
        items = tensor.contents.bytes_contents
        return b"".join(struct.pack("<I", len(item)) + item for item in items)
    if datatype not in CONTENTS:
        raise BadTensor(
            f"The datatype of {name!r} is {datatype!r}, which has no typed contents. Send its "
            "bytes in raw_input_contents."
        )
    wide = np.array(getattr(tensor.contents, CONTENTS[datatype]))
    array = wide.astype(DATATYPES[datatype])
    if not np.array_equal(array, wide, equal_nan=True):  # INT8 and others share a wider field
        raise BadTensor(f"{name!r} has values that do not fit {datatype}. Send other values.")
    return array.tobytes()


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        found[name] = getattr(parameter, choice) if choice else None
    return found


def _set(parameter: Any, value: Any) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    else:
        parameter.string_param = value if isinstance(value, str) else json.dumps(value)
