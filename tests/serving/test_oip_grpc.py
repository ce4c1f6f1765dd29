"""Messages of the Open Inference Protocol, to requests and back."""

import struct

import numpy as np
import pytest

from shipway.payloads.errors import BadRequest, BadTensor
from shipway.serving import oip
from shipway.serving.generated import open_inference_grpc_pb2 as messages
from shipway.serving.oip_grpc import SERVICES, ModelInfer, as_http, as_message, calls
from shipway.serving.replies import Reply

ARRAYS = {
    "BOOL": np.array([True, False]),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-5, 300], np.int16),
    "INT32": np.array([-(2**31), 7], np.int32),
    "INT64": np.array([-(2**63), 7]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "FP32": np.array([0.5, -1e30], np.float32),
    "FP64": np.array([0.1, -1e300]),
}


def header_of(body: bytes, length: int):
    return oip.parse_json(body[:length], ""), body[length:]


@pytest.mark.parametrize("datatype", ARRAYS)
def test_typed_contents_have_the_bytes_of_raw_ones(datatype):
    array = ARRAYS[datatype]
    raw = messages.ModelInferRequest(id="mine")
    raw.inputs.add(name="x", datatype=datatype, shape=[2])
    typed = messages.ModelInferRequest.FromString(raw.SerializeToString())
    raw.raw_input_contents.append(array.tobytes())
    field = {
        "BOOL": "bool_contents",
        "INT64": "int64_contents",
        "UINT64": "uint64_contents",
        "FP32": "fp32_contents",
        "FP64": "fp64_contents",
    }.get(datatype, "uint_contents" if datatype[0] == "U" else "int_contents")
    getattr(typed.inputs[0].contents, field).extend(array.tolist())
    assert as_http(typed) == as_http(raw)
    header, tail = header_of(*as_http(raw))
    assert header["id"] == "mine" and tail == array.tobytes()
    assert header["inputs"][0]["parameters"] == {"binary_data_size": array.nbytes}


def test_texts_have_their_length_before_them():
    asked = messages.ModelInferRequest()
    tensor = asked.inputs.add(name="text", datatype="BYTES", shape=[2])
    tensor.contents.bytes_contents.extend([b"one", b""])
    _, tail = header_of(*as_http(asked))
    assert tail == struct.pack("<I", 3) + b"one" + struct.pack("<I", 0)


@pytest.mark.parametrize(
    ("datatype", "values", "reason"),
    [
        ("FP16", [], "no typed contents"),
        ("nonsense", [], "no typed contents"),
        ("INT8", [128], "do not fit INT8"),
        ("INT16", [-32769], "do not fit INT16"),
    ],
)
def test_contents_that_are_no_tensor_are_refused(datatype, values, reason):
    asked = messages.ModelInferRequest()
    tensor = asked.inputs.add(name="x", datatype=datatype, shape=[1])
    tensor.contents.int_contents.extend(values)
    with pytest.raises(BadTensor, match=reason):
        as_http(asked)


def test_raw_contents_for_some_inputs_are_refused():
    asked = messages.ModelInferRequest(raw_input_contents=[b"1"])
    asked.inputs.add(name="x", datatype="INT8", shape=[1])
    asked.inputs.add(name="y", datatype="INT8", shape=[1])
    with pytest.raises(BadTensor, match="2 inputs and 1 raw_input_contents"):
        as_http(asked)


def test_too_many_tensors_are_refused():
    asked = messages.ModelInferRequest()
    for _ in range(65):
        asked.outputs.add(name="x")
    with pytest.raises(BadTensor, match="more than 64"):
        as_http(asked)


def test_a_reply_comes_back_as_a_message():
    logits, classes = np.array([[0.5, 1.5]], np.float32), np.array([3])
    body, headers = oip.write_reply(
        "cats",
        "1.0",
        oip.InferRequest(id="mine"),
        {"logits": logits, "class": classes},
        {"truncated": [True, False], "note": "text", "flag": True, "count": 7},
    )
    answer = messages.ModelInferResponse.FromString(as_message(Reply(body, headers=headers)))
    assert (answer.model_name, answer.model_version, answer.id) == ("cats", "1.0", "mine")
    assert [(out.name, out.datatype, list(out.shape)) for out in answer.outputs] == [
        ("logits", "FP32", [1, 2]),
        ("class", "INT64", [1]),
    ]
    assert list(answer.raw_output_contents) == [logits.tobytes(), classes.tobytes()]
    assert answer.parameters["truncated"].string_param == "[true, false]"
    assert answer.parameters["note"].string_param == "text"
    assert answer.parameters["flag"].bool_param is True
    assert answer.parameters["count"].int64_param == 7


def test_a_message_of_another_kind_is_refused():
    with pytest.raises(BadRequest, match="is not a ModelInferRequest"):
        ModelInfer().request(b"\xff\xff", {}, "")


def test_headers_of_a_call_reach_the_request():
    request = ModelInfer().request(b"", {"traceparent": "00-1", "content-type": "x"}, "mine")
    assert request.headers["traceparent"] == "00-1" and request.id == "mine"
    assert request.headers["content-type"] == "application/octet-stream"


def test_both_names_of_the_service_have_every_call():
    found = calls({"name": "cats", "versions": ["1"], "platform": "p", "inputs": [], "outputs": []})
    for service in SERVICES:
        described = found[f"{service}/ModelMetadata"].request(b"", {}, "")
        assert messages.ModelMetadataResponse.FromString(described.message).name == "cats"
        assert f"{service}/ModelInfer" in found
