"""Open Inference Protocol v2, JSON and its binary extension: requests to tensors and back.

The protocol: github.com/kserve/open-inference-protocol. The extension, which `tritonclient` speaks:
github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import orjson

from shipway.payloads.errors import BadRequest, BadTensor, UnsupportedContent
from shipway.payloads.request import (
    HEADER_LENGTH,
    JSON,
    Request,
    check_count,
    json_type,
    parse_json,
    shown,
)
from shipway.payloads.tensors import (
    DATATYPE_OF,
    as_array,
    check_finite,
    check_shape,
    check_together,
)
from shipway.recipe import Axis, TensorSpec

MOST_NAMED = 64
"""Inputs, and outputs, of one request."""
MOST_AXES = 64
"""NumPy's own limit."""
ACCEPTED = (
    'Send {"inputs": [{"name", "shape", "datatype", "data"}, …]}, or the same without "data", '
    "followed by the bytes of the tensors."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """A parsed inference request."""

    id: str | None
    """The client's, which the reply repeats; None if there is none."""
    arrays: tuple[np.ndarray, ...] = ()
    """One for each of the model's inputs, (rows, …); none for a BYTES tensor."""
    items: tuple[bytes, ...] = ()
    """The elements of a BYTES tensor, each a native payload of the task."""
    binary: frozenset[str] | None = None
    """The outputs to send in binary; None for all of them."""
    outputs: tuple[str, ...] | None = None
    """The outputs to send; None for all of them."""


def is_v2(request: Request, value: Any) -> bool:
    """Whether a request is v2: by its header, or by its form if its JSON is decoded."""
    if HEADER_LENGTH in request.headers:
        return True
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("inputs"), list)
        and bool(value["inputs"])
        and all(isinstance(each, Mapping) and "datatype" in each for each in value["inputs"])
    )


def parse_request(
    request: Request, value: Any, inputs: Sequence[TensorSpec], outputs: Sequence[str], native: str
) -> InferRequest:
    """`value` is the request's body, bytes or decoded JSON; `native` the name
    of the BYTES tensor that holds native payloads.

    Raises BadRequest, BadTensor, TooManyRows or UnsupportedContent.
    """
    if encoding := request.headers.get("content-encoding", ""):
        raise UnsupportedContent(
            f"Unsupported content encoding {encoding[:40]!r}. Send the body uncompressed."
        )
    header, rest = _split(request, value)
    if not isinstance(header, Mapping) or not isinstance(header.get("inputs"), list):
        raise BadRequest(f"The v2 request has no `inputs` list. {ACCEPTED}")
    declared = _by_name(header["inputs"])
    all_binary = bool(_parameters(header).get("binary_data_output"))
    requested = header.get("outputs")
    if requested is not None and not (isinstance(requested, list) and len(requested) <= MOST_NAMED):
        if isinstance(requested, list):
            raise BadRequest(
                f"`outputs` has {len(requested):,} elements, and this model has {len(outputs)} "
                "outputs. Name each once."
            )
        raise BadRequest(f"`outputs` is a JSON {json_type(requested)}, not a list. {ACCEPTED}")
    binary: set[str] = set()
    names: list[str] = []
    for each in requested or ():
        name = each.get("name") if isinstance(each, Mapping) else ""
        if not isinstance(name, str) or name not in outputs:
            raise BadTensor(
                f"There is no output {shown(name, 128)!r}. Available outputs: {', '.join(outputs)}."
            )
        parameters = _parameters(each)
        if "classification" in parameters:
            raise BadRequest(
                "The classification extension is not supported. Request the output itself."
            )
        names.append(name)
        if parameters.get("binary_data", all_binary):
            binary.add(name)
    identity = header.get("id")
    if isinstance(identity, list | dict):
        raise BadRequest(f"`id` is a JSON {json_type(identity)}, not a string. {ACCEPTED}")
    found: dict[str, Any] = {
        "id": shown(identity, 256) if identity is not None else None,
        "binary": None if all_binary and not names else frozenset(binary),
        "outputs": tuple(names) or None,
    }
    if list(declared) == [native] and declared[native].get("datatype") == "BYTES":
        items = _bytes_tensor(declared[native], rest)
        return InferRequest(items=items, **found)
    if set(declared) != {spec.name for spec in inputs}:
        named = ", ".join(map(repr, list(declared)[:5])) or "none"
        raise BadTensor(
            f"The request has the inputs {named}; this "
            f"model takes {', '.join(spec.name for spec in inputs)}. Send these inputs."
        )
    specs = {spec.name: spec for spec in inputs}
    found_arrays: dict[str, np.ndarray] = {}
    for name, each in declared.items():  # their bytes lie in the order of the request
        found_arrays[name], rest = _tensor(each, specs[name], rest)
    arrays = [found_arrays[spec.name] for spec in inputs]
    check_together(arrays, inputs)
    if rest:
        raise BadTensor(
            f"The body has {len(rest)} extra bytes after the last tensor. Check "
            "the shapes and binary_data_size."
        )
    return InferRequest(arrays=tuple(arrays), **found)


def write_reply(
    model: str,
    version: str,
    request: InferRequest,
    outputs: Mapping[str, np.ndarray],
    parameters: Mapping[str, Any],
) -> tuple[bytes, dict[str, str]]:
    """A reply's body and headers. Each of `outputs` is (rows, …); `parameters` are the reply's."""
    described, tail = [], []
    for name, array in outputs.items():
        if request.outputs is not None and name not in request.outputs:
            continue
        tensor: dict[str, Any] = {
            "name": name,
            "datatype": DATATYPE_OF[str(array.dtype)],
            "shape": list(array.shape),
        }
        array = np.ascontiguousarray(array)
        if request.binary is None or name in request.binary:
            tensor["parameters"] = {"binary_data_size": array.nbytes}
            tail.append(array.tobytes())
        else:
            tensor["data"] = array.ravel()
        described.append(tensor)
    reply: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id is not None:
        reply["id"] = request.id
    if parameters:
        reply["parameters"] = dict(parameters)
    header = orjson.dumps(reply | {"outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return header, {"content-type": JSON}
    return b"".join([header, *tail]), {
        "content-type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
    }


def metadata(name: str, version: str, inputs: Any, outputs: Any, platform: str) -> dict[str, Any]:
    """The model metadata of the protocol; a dynamic axis is -1."""

    def described(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {
                "name": spec.name,
                "datatype": DATATYPE_OF[spec.dtype],
                "shape": [-1 if isinstance(axis, Axis) else axis for axis in spec.shape],
            }
            for spec in specs
        ]

    return {
        "name": name,
        "versions": [version],
        "platform": platform,
        "inputs": described(inputs),
        "outputs": described(outputs),
    }


def _split(request: Request, value: Any) -> tuple[Any, memoryview]:
    """The JSON and the binary part."""
    length = request.headers.get(HEADER_LENGTH)
    if not isinstance(value, bytes | bytearray):
        return value, memoryview(b"")
    if length is None:
        return parse_json(value, ACCEPTED), memoryview(b"")
    if not re.fullmatch("[0-9]{1,18}", length) or int(length) > len(value):
        raise BadRequest(
            f"The header {HEADER_LENGTH} is {length[:40]!r}, but the body has {len(value)} "
            "bytes. Set it to the length of the JSON part in bytes."
        )
    body = memoryview(value)
    return parse_json(bytes(body[: int(length)]), ACCEPTED), body[int(length) :]


def _parameters(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    found = holder.get("parameters") or {}
    if not isinstance(found, Mapping):
        raise BadRequest(f"`parameters` is a JSON {json_type(found)}, not an object. {ACCEPTED}")
    return found


def _by_name(inputs: list[Any]) -> dict[str, Mapping[str, Any]]:
    declared: dict[str, Mapping[str, Any]] = {}
    for each in inputs[:MOST_NAMED]:
        name = each.get("name") if isinstance(each, Mapping) else None
        if not isinstance(name, str) or name in declared:
            raise BadTensor(
                f"Each element of `inputs` must be an object with a unique name. {ACCEPTED}"
            )
        declared[name[:128]] = each
    return declared


def _shape(declared: Mapping[str, Any]) -> tuple[int, ...]:
    shape = declared.get("shape")
    name = declared["name"][:128]
    if not isinstance(shape, list) or not all(
        isinstance(each, int) and not isinstance(each, bool) and each >= 0
        for each in shape[:MOST_AXES]
    ):
        raise BadTensor(f"The shape of {name!r} is not a list of whole numbers.")
    if len(shape) > MOST_AXES:
        raise BadTensor(f"The shape of {name!r} has {len(shape):,} axes. Send that of the tensor.")
    return tuple(shape)


def _tensor(
    declared: Mapping[str, Any], spec: TensorSpec, rest: memoryview
) -> tuple[np.ndarray, memoryview]:
    """The array of one input, checked against what the model takes, and the bytes after it."""
    shape = _shape(declared)
    wanted = DATATYPE_OF[spec.dtype]
    if declared.get("datatype") != wanted:
        found = shown(declared.get("datatype"))
        raise BadTensor(f"The datatype of {spec.name!r} is {found}; this model takes {wanted}.")
    check_shape(shape, spec)
    size = _parameters(declared).get("binary_data_size")
    if size is None:
        return _from_data(declared.get("data"), shape, spec), rest
    expected = prod(shape) * np.dtype(spec.dtype).itemsize
    if size != expected or len(rest) < expected:
        raise BadTensor(
            f"{spec.name!r} of shape {list(shape)} needs {expected} bytes; binary_data_size is "
            f"{shown(size)}, and the body has {len(rest)} bytes left."
        )
    array = np.frombuffer(rest[:expected], spec.dtype).reshape(shape)
    if array.dtype == bool and array.view(np.uint8).max(initial=0) > 1:
        raise BadTensor(
            f"{spec.name!r} contains bytes other than 0 and 1. Send 0 or 1 for each BOOL element."
        )
    check_finite(array, spec.name)
    return array, rest[expected:]


def _from_data(data: Any, shape: tuple[int, ...], spec: TensorSpec) -> np.ndarray:
    if not isinstance(data, list):
        raise BadTensor(
            f"{spec.name!r} has neither a `data` list nor a binary_data_size. Send one of them."
        )
    array = as_array(data, spec)
    if array.size != prod(shape):
        raise BadTensor(
            f"{spec.name!r} of shape {list(shape)} needs {prod(shape)} elements; its data has "
            f"{array.size}. Correct the shape or the data."
        )
    return array.reshape(shape)


def _is_one(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1


def _bytes_tensor(declared: Mapping[str, Any], rest: memoryview) -> tuple[bytes, ...]:
    """The elements of a BYTES tensor: strings in JSON, or each with its length before it."""
    shape = _shape(declared)
    name = declared["name"][:128]
    if not 1 <= len(shape) <= 2 or shape[1:] not in ((), (1,)):
        raise BadTensor(f"The shape of {name!r} is {list(shape)[:8]}; expected [rows].")
    check_count(shape[0], "rows")
    size = _parameters(declared).get("binary_data_size")
    if size is None:
        data = declared.get("data")
        if len(shape) == 2 and isinstance(data, list) and all(_is_one(each) for each in data):
            data = [text for [text] in data]
        if not isinstance(data, list) or not all(isinstance(each, str) for each in data):
            raise BadTensor(
                f"{name!r} has neither a `data` list of strings nor a "
                "binary_data_size. Send one of them."
            )
        if rest:
            raise BadTensor(
                f"The body has {len(rest)} extra bytes after the last tensor. "
                "Check the shapes and binary_data_size."
            )
        items = [each.encode(errors="surrogatepass") for each in data]
    else:
        if size != len(rest):
            raise BadTensor(
                f"The binary_data_size of {name!r} is {shown(size)}, but the "
                f"body has {len(rest)} bytes after the JSON part."
            )
        items = []
        while rest and len(items) <= shape[0]:
            length = struct.unpack("<I", rest[:4])[0] if len(rest) >= 4 else len(rest)
            if len(rest) < 4 or 4 + length > len(rest):
                raise BadTensor(
                    f"The data of {name!r} ends in the middle of an element. Send "
                    "each element with its length before it, as 4 bytes."
                )
            items.append(bytes(rest[4 : 4 + length]))
            rest = rest[4 + length :]
    if len(items) != shape[0]:
        raise BadTensor(
            f"The shape of {name!r} is {list(shape)}, but its data has "
            f"{len(items)} elements. Correct the shape or the data."
        )
    return tuple(items)
