"""The v2 protocol: what comes in is what was sent, and every lie about it is found out at once."""

import json
import struct
import time
from typing import Any

import numpy as np
import orjson
import pytest

from shipway.payloads.errors import BadRequest, BadTensor, TooManyRows, UnsupportedContent
from shipway.payloads.request import HEADER_LENGTH, Request
from shipway.recipe import Axis, TensorSpec
from shipway.serving import oip

BATCH = Axis(name="batch", min=1, max=8)
LENGTH = Axis(name="length", min=2, max=16)
OUTPUTS = ("logits", "hidden")
HEADER = HEADER_LENGTH


def spec(dtype: str = "float32", *shape, name: str = "x") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=(BATCH, *(shape or (3,))))


def declared(array: np.ndarray, name: Any = "x", *, binary: bool = False, **changes) -> dict:
    tensor: dict[str, Any] = {
        "name": name,
        "shape": list(array.shape),
        "datatype": oip.DATATYPE_OF[str(array.dtype)],
    }
    if binary:
        tensor["parameters"] = {"binary_data_size": array.nbytes}
    else:
        tensor["data"] = array.ravel().tolist()
    return tensor | changes


def sent(body: dict, tail: bytes = b"", length: str | None = None) -> Request:
    """A request with its header, as tritonclient makes it."""
    header = json.dumps(body).encode()
    if length is None:
        length = str(len(header))
    return Request({"body": bytearray(header + tail)}, {HEADER: length})


def read(request: Request, inputs=None, natural: str = "text") -> oip.InferRequest:
    value = request.fields["body"]
    return oip.parse_request(request, value, inputs or (spec(),), OUTPUTS, natural)


def samples(dtype: str) -> np.ndarray:
    """Three rows with the dtype's extremes."""
    if dtype == "bool":
        return np.array([[True, False, True], [False, False, False], [True, True, True]])
    if np.dtype(dtype).kind == "f":
        floats = np.finfo(dtype)
        array = np.random.default_rng(0).normal(size=(3, 3)).astype(dtype)
        array[0] = [floats.min, floats.max, floats.tiny]
        return array
    ends = np.iinfo(dtype)
    return np.array([[ends.min, 0, ends.max], [1, 2, 3], [ends.max, ends.max - 1, 7]], dtype)


@pytest.mark.parametrize("dtype", oip.DATATYPE_OF)
@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
def test_every_datatype_arrives_as_it_was_sent(dtype, form):
    array = samples(dtype)
    body = declared(array, binary=form == "binary")
    if form == "nested":
        body["data"] = array.tolist()
    tail = array.tobytes() if form == "binary" else b""
    (found,) = read(sent({"inputs": [body]}, tail), (spec(dtype),)).arrays
    assert found.dtype == dtype
    assert np.array_equal(found, array)


@pytest.mark.parametrize("dtype", oip.DATATYPE_OF)
@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_is_written_as_it_is_read(dtype, binary):
    array = samples(dtype)
    asked = oip.InferRequest(id="7", binary=None if binary else frozenset())
    body, headers = oip.write_reply("m", "1.0", asked, {"x": array}, {})
    length = int(headers.get("Inference-Header-Content-Length", len(body)))
    reply = json.loads(body[:length])
    assert (reply["model_name"], reply["model_version"], reply["id"]) == ("m", "1.0", "7")
    back = Request(
        {"body": orjson.dumps({"inputs": reply["outputs"]}) + body[length:]},
        {HEADER: str(len(orjson.dumps({"inputs": reply["outputs"]})))},
    )
    (found,) = read(back, (spec(dtype),)).arrays
    assert np.array_equal(found, array)


def test_outputs_that_are_no_block_of_memory_are_written_in_order():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(0, 2, 1)
    body, headers = oip.write_reply("m", "1", oip.InferRequest(id=None), {"x": array}, {})
    tail = body[int(headers["Inference-Header-Content-Length"]) :]
    assert np.array_equal(np.frombuffer(tail, np.float32).reshape(2, 4, 3), array)
    body, _ = oip.write_reply(
        "m", "1", oip.InferRequest(id=None, binary=frozenset()), {"x": array}, {}
    )
    assert json.loads(body)["outputs"][0]["data"] == array.ravel().tolist()


def test_several_tensors_of_both_kinds_are_told_apart():
    inputs = (spec("float32", 3, name="a"), spec("int64", 2, name="b"), spec("uint8", name="c"))
    a = np.ones((2, 3), np.float32)
    b = np.array([[1, 2], [3, 4]])
    c = np.array([[5, 6, 7]] * 2, np.uint8)
    body = {
        "inputs": [declared(b, "b"), declared(c, "c", binary=True), declared(a, "a", binary=True)]
    }
    # The extension: bytes in the order of the inputs in the request.
    found = read(sent(body, c.tobytes() + a.tobytes()), inputs).arrays
    for each, expected in zip(found, (a, b, c), strict=True):
        assert np.array_equal(each, expected)


ONES = np.ones((2, 3), np.float32)
NAN = np.array([[1, np.nan, 2]], np.float32)


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (declared(ONES, datatype="FP64"), "datatype of 'x' is FP64; this model takes FP32"),
        (declared(ONES, datatype="float32"), "datatype of 'x' is float32"),
        (declared(ONES, datatype=None), "datatype of 'x' is None"),
        (declared(ONES, datatype={"a": 1}), "datatype of 'x' is"),
        (declared(ONES, shape=[3, 2]), r"\[3, 2\]; this model takes \[rows, 3\]"),
        (declared(ONES, shape=[6]), r"\[6\]; this model"),
        (declared(ONES, shape=[]), r"\[\]; this model"),
        (declared(ONES, shape=[2, 3, 1]), "this model takes"),
        (declared(ONES, shape=[-2, -3]), "not a list of whole numbers"),
        (declared(ONES, shape=[2.0, 3]), "not a list of whole numbers"),
        (declared(ONES, shape=[True, 3]), "not a list of whole numbers"),
        (declared(ONES, shape="2,3"), "not a list of whole numbers"),
        (declared(ONES, shape=[10**30, 3]), "not a list of whole numbers"),
        (declared(ONES, shape=None), "not a list of whole numbers"),
        (declared(ONES, shape=[3, 3]), "needs 9 elements; its data has 6"),
        (declared(ONES, shape=[1, 3]), "needs 3 elements; its data has 6"),
        (declared(ONES, data=[[1, 2, 3], [1, 2]]), "is not a tensor"),
        (declared(ONES, data=[1, 2, 3, 4, 5, "6"]), "contains values that"),
        (declared(ONES, data=[1, 2, 3, 4, 5, None]), "contains values that"),
        (declared(ONES, data=["1", "2", "3", "4", "5", "6"]), "contains values that"),
        (declared(ONES, data=[True] * 6), "contains values that"),
        (declared(ONES, data=[{"a": 1}] * 6), "contains values that"),
        (declared(ONES, data=[1e300] * 6), "NaN or infinity"),
        (declared(ONES, data=5), "neither a `data` list nor"),
        (declared(ONES, data="AAAA"), "neither a `data` list nor"),
        (declared(ONES, data=None), "neither a `data` list nor"),
        (declared(ONES, data=[]), "its data has 0"),
        (declared(ONES, data=[[[[]]]]), "nested deeper than the 2 axes"),
        (declared(ONES, name="y"), "The request has the inputs 'y'; this model takes x"),
        (declared(ONES, name=3), "a unique name"),
        ("x", "a unique name"),
    ],
)
def test_a_tensor_that_is_not_the_models_is_refused(tensor, complaint):
    with pytest.raises((BadTensor, BadRequest), match=complaint) as caught:
        read(sent({"inputs": [tensor]}))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("uint8", [0, 256, 1]),
        ("uint8", [-1, 0, 1]),
        ("uint8", [0.5, 1, 2]),
        ("uint8", [1.0, 2.0, 3.0]),
        ("int8", [128, 0, 0]),
        ("int64", [2**63, 0, 0]),
        ("int64", [2**63, -1, 0]),
        ("uint64", [2**63, -1, 0]),
        ("uint64", [2**63, 0.5, 0]),
        ("uint64", [1e19, 2.0, 0]),
        ("bool", [0, 1, 1]),
        ("bool", [True, 2, False]),
        ("float16", [70_000, 0, 0]),
        ("float32", [1e39, 0, 0]),
    ],
)
def test_a_value_that_the_dtype_cannot_hold_is_refused_and_never_wrapped(dtype, data):
    tensor = declared(np.zeros((1, 3), dtype), data=data)
    with pytest.raises(BadTensor, match="outside the range|contains values that|infinity"):
        read(sent({"inputs": [tensor]}), (spec(dtype),))


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_json_carries_no_nan(value):
    body = orjson.dumps({"inputs": [declared(ONES, data=["here", 1, 2, 3, 4, 5])]})
    body = body.replace(b'"here"', value)
    with pytest.raises((BadRequest, BadTensor), match="not valid JSON|infinity"):
        read(Request({"body": body}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_binary_carries_nan_and_it_is_refused(value):
    array = np.array([[1, value, 2]], np.float32)
    with pytest.raises(BadTensor, match="'x' contains NaN or infinity"):
        read(sent({"inputs": [declared(array, binary=True)]}, array.tobytes()))


def test_bytes_that_are_no_truth_values_are_refused():
    tensor = declared(np.ones((1, 3), bool), binary=True)
    with pytest.raises(BadTensor, match="other than 0 and 1"):
        read(sent({"inputs": [tensor]}, b"\x01\x02\x00"), (spec("bool"),))


@pytest.mark.parametrize("size", [None, 0, 23, 25, 24.5, -24, "24", 2**40, True, [24]])
def test_a_byte_count_that_is_not_the_shapes_is_refused(size):
    tensor = declared(ONES, binary=True, parameters={"binary_data_size": size})
    with pytest.raises(BadTensor):
        read(sent({"inputs": [tensor]}, ONES.tobytes()))


def test_a_body_that_is_cut_short_is_refused():
    tensor = declared(ONES, binary=True)
    for kept in range(24):
        with pytest.raises(BadTensor, match=f"the body has {kept} bytes left"):
            read(sent({"inputs": [tensor]}, ONES.tobytes()[:kept]))


@pytest.mark.parametrize("binary", [True, False])
def test_trailing_bytes_are_refused(binary):
    tensor = declared(ONES, binary=binary)
    tail = (ONES.tobytes() if binary else b"") + b"\x00"
    with pytest.raises(BadTensor, match="1 extra bytes after"):
        read(sent({"inputs": [tensor]}, tail))


def test_bytes_of_unaligned_tensors_are_read_right():
    array = np.arange(3, dtype=np.float64)[None]
    for pad in range(8):
        inputs = (spec("uint8", 1 + pad, name="a"), spec("float64", name="x"))
        first = np.ones((1, 1 + pad), np.uint8)
        body = {"inputs": [declared(first, "a", binary=True), declared(array, binary=True)]}
        found = read(sent(body, first.tobytes() + array.tobytes()), inputs)
        assert np.array_equal(found.arrays[1], array)


HUGE = [
    [10**12, 3],
    [1, 10**12],
    [10**6, 10**6],
    [2**62, 2**62],
    [10**12],
    [1] * 100_000,
]


@pytest.mark.parametrize("shape", HUGE, ids=lambda shape: f"{shape[:2]}")
@pytest.mark.parametrize("form", ["JSON", "binary", "BYTES", "BYTES in JSON"])
def test_a_trillion_declared_elements_are_refused_at_once(shape, form):
    tensor = declared(ONES, shape=shape)
    if form == "binary":
        tensor["parameters"] = {"binary_data_size": 10**12 * 4}
    if form.startswith("BYTES"):
        tensor |= {"name": "text", "datatype": "BYTES", "data": ["a"]}
    if form == "BYTES":
        tensor["parameters"] = {"binary_data_size": 5}
    start = time.process_time()
    with pytest.raises((BadTensor, TooManyRows)) as caught:
        read(sent({"inputs": [tensor]}, b"\x01\x00\x00\x00a"))
    assert time.process_time() - start < 0.1
    assert len(str(caught.value)) < 600


def test_a_dynamic_axis_takes_its_range_and_no_more():
    for length, good in ((1, False), (2, True), (16, True), (17, False)):
        request = sent({"inputs": [declared(np.ones((1, length), np.int64))]})
        if good:
            assert read(request, (spec("int64", LENGTH),)).arrays[0].shape == (1, length)
        else:
            with pytest.raises(BadTensor, match="2 to 16"):
                read(request, (spec("int64", LENGTH),))


def test_inputs_that_share_an_axis_must_agree_in_it():
    inputs = (spec("int64", LENGTH, name="ids"), spec("int64", LENGTH, name="mask"))
    body = {
        "inputs": [
            declared(np.ones((2, 8), np.int64), "ids"),
            declared(np.ones((2, 9), np.int64), "mask"),
        ]
    }
    with pytest.raises(BadTensor, match="'mask' has length 9; another input has 8"):
        read(sent(body), inputs)


def test_inputs_must_have_the_same_rows():
    inputs = (spec(name="a"), spec(name="b"))
    body = {"inputs": [declared(ONES, "a"), declared(ONES[:1], "b")]}
    with pytest.raises(BadTensor, match="number of rows"):
        read(sent(body), inputs)


def test_a_list_of_a_million_numbers_is_refused_in_little_time():
    tensor = declared(ONES, data=[0.5] * 1_000_000)
    request = sent({"inputs": [tensor]})
    start = time.process_time()
    with pytest.raises(BadTensor, match="its data has 1000000"):
        read(request)
    assert time.process_time() - start < 1


def test_a_million_numbers_are_read_where_the_model_takes_them():
    array = np.random.default_rng(0).normal(size=(1, 1_000_000)).astype(np.float32)
    request = sent({"inputs": [declared(array)]})
    (found,) = read(request, (spec("float32", 1_000_000),)).arrays
    assert np.array_equal(found, array)


@pytest.mark.parametrize("rows", [0, 1025])
def test_no_rows_and_too_many_rows_are_refused(rows):
    tensor = declared(np.ones((rows, 3), np.float32))
    with pytest.raises((BadRequest, TooManyRows), match="at least one|at most 1,024"):
        read(sent({"inputs": [tensor]}))


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "c"], [], ["a", "b", "b"]])
def test_inputs_unknown_missing_or_given_twice_are_refused(names):
    body = {"inputs": [declared(ONES, each) for each in names]}
    with pytest.raises(BadTensor, match="inputs"):
        read(sent(body), (spec(name="a"), spec(name="b")))


def test_ten_thousand_inputs_and_a_very_long_name_make_no_long_message():
    for names in ([f"input {each}" for each in range(10_000)], ["y" * 1_000_000]):
        with pytest.raises(BadTensor) as caught:
            read(sent({"inputs": [declared(ONES, each) for each in names]}))
        assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize(
    "length", ["-1", "100000", "abc", "", "1e3", "0x10", "٣", "²", " 5", "9" * 5000, "+7", "1_0"]
)
def test_a_header_length_that_lies_is_refused(length):
    with pytest.raises(BadRequest, match="inference-header-content-length|not valid JSON"):
        read(sent({"inputs": [declared(ONES)]}, length=length))


@pytest.mark.parametrize("by", [-1, 1])
def test_a_header_length_that_is_off_by_one_is_refused(by):
    body = {"inputs": [declared(ONES, binary=True)]}
    length = str(len(json.dumps(body)) + by)
    with pytest.raises((BadRequest, BadTensor)):
        read(sent(body, ONES.tobytes(), length=length))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"inputs": {}}',
        b'{"inputs": null}',
        b'{"inputs": "x"}',
        b'{"inputs": [null]}',
        b'{"inputs": []}',
        b'{"inputs": [[]]}',
        b'{"inputs": [{"name": "x", "parameters": [1]}]}',
        b"\xff\xfe",
        b'{"a":' * 2000,
    ],
)
def test_what_is_no_request_at_all_is_called_that(body):
    with pytest.raises((BadRequest, BadTensor)):
        read(Request({"body": body}, {HEADER: str(len(body))}))


@pytest.mark.parametrize("body", [None, "text", 3, [1]])
def test_a_body_that_the_server_decoded_to_something_else_is_refused(body):
    with pytest.raises(BadRequest, match="no `inputs` list"):
        oip.parse_request(Request({"body": body}, {HEADER: "3"}), body, (spec(),), OUTPUTS, "text")


def test_a_compressed_body_is_refused():
    request = sent({"inputs": [declared(ONES)]})
    request = Request(request.fields, request.headers | {"content-encoding": "gzip"})
    with pytest.raises(UnsupportedContent, match="gzip"):
        read(request)


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        ([{"name": "nothing"}], "no output 'nothing'. Available outputs: logits, hidden"),
        (["logits"], "no output ''"),
        ([{}], "no output"),
        ([{"name": ["logits"]}], "no output"),
        ({"name": "logits"}, "a JSON object, not a list"),
        ([{"name": "logits", "parameters": {"classification": 3}}], "classification"),
        ([{"name": "logits", "parameters": "binary"}], "not an object"),
    ],
)
def test_outputs_that_there_are_not_are_refused(outputs, complaint):
    with pytest.raises((BadTensor, BadRequest), match=complaint):
        read(sent({"inputs": [declared(ONES)], "outputs": outputs}))


def written(asked: oip.InferRequest) -> tuple[dict, bytes, dict]:
    outputs = {"logits": ONES, "hidden": 2 * ONES}
    body, headers = oip.write_reply("m", "1.0", asked, outputs, {"tokens": [3]})
    length = int(headers.get("Inference-Header-Content-Length", len(body)))
    return json.loads(body[:length]), body[length:], headers


@pytest.mark.parametrize(
    ("said", "binary"),
    [
        ({}, {"logits": False, "hidden": False}),
        ({"parameters": {"binary_data_output": True}}, {"logits": True, "hidden": True}),
        ({"outputs": [{"name": "hidden"}]}, {"hidden": False}),
        ({"outputs": []}, {"logits": False, "hidden": False}),
        ({"outputs": [], "parameters": {"binary_data_output": True}}, dict.fromkeys(OUTPUTS, True)),
        ({"outputs": [{"name": "hidden", "parameters": {"binary_data": True}}]}, {"hidden": True}),
        (
            {
                "outputs": [
                    {"name": "hidden", "parameters": {"binary_data": True}},
                    {"name": "logits", "parameters": {"binary_data": False}},
                ]
            },
            {"logits": False, "hidden": True},
        ),
        (
            {
                "outputs": [
                    {"name": "hidden"},
                    {"name": "logits", "parameters": {"binary_data": False}},
                ],
                "parameters": {"binary_data_output": True},
            },
            {"logits": False, "hidden": True},
        ),
    ],
)
def test_the_outputs_asked_for_come_in_the_form_asked_for(said, binary):
    reply, tail, headers = written(read(sent({"inputs": [declared(ONES)]} | said)))
    assert {each["name"]: "data" not in each for each in reply["outputs"]} == binary
    assert ("Inference-Header-Content-Length" in headers) == any(binary.values())
    assert headers["content-type"] == (
        "application/octet-stream" if any(binary.values()) else "application/json"
    )
    for each in reply["outputs"]:
        if "data" in each:
            found = np.array(each["data"], np.float32)
        else:
            size = each["parameters"]["binary_data_size"]
            found, tail = np.frombuffer(tail[:size], np.float32), tail[size:]
        assert np.array_equal(found.reshape(each["shape"]), ONES * (1 + (each["name"] == "hidden")))
    assert not tail
    assert reply["parameters"] == {"tokens": [3]}


@pytest.mark.parametrize(("id", "back"), [("a", "a"), ("", ""), (7, "7"), ("x" * 999, "x" * 256)])
def test_the_id_comes_back(id, back):
    reply, _, _ = written(read(sent({"inputs": [declared(ONES)], "id": id})))
    assert reply["id"] == back


def test_no_id_brings_none_back():
    assert "id" not in written(read(sent({"inputs": [declared(ONES)]})))[0]


def elements(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in items)


def text_tensor(shape, data=None, size=None) -> dict:
    tensor = {"name": "text", "shape": shape, "datatype": "BYTES"}
    if data is not None:
        tensor["data"] = data
    if size is not None:
        tensor["parameters"] = {"binary_data_size": size}
    return tensor


@pytest.mark.parametrize("shape", [[3], [3, 1]])
@pytest.mark.parametrize("binary", [True, False])
def test_elements_of_a_bytes_tensor_arrive_as_they_were_sent(shape, binary):
    items = ["a text", "", "Ångström 🚢" * 1000]
    if binary:
        tail = elements(*(each.encode() for each in items))
        request = sent({"inputs": [text_tensor(shape, size=len(tail))]}, tail)
    else:
        request = sent({"inputs": [text_tensor(shape, items)]})
    found = read(request)
    assert found.items == tuple(each.encode() for each in items)
    assert found.arrays == ()


def test_any_bytes_may_be_an_element():
    item = bytes(range(256)) * 100
    tail = elements(item, item[::-1])
    request = sent({"inputs": [text_tensor([2], size=len(tail))]}, tail)
    assert read(request).items == (item, item[::-1])


def test_a_bytes_tensor_cut_anywhere_is_refused():
    whole = elements(b"one", b"three")
    for kept in range(len(whole)):
        with pytest.raises(BadTensor):
            read(sent({"inputs": [text_tensor([2], size=kept)]}, whole[:kept]))


@pytest.mark.parametrize(
    ("tensor", "tail"),
    [
        (text_tensor([2], size=7), elements(b"one")),
        (text_tensor([1], size=14), elements(b"one", b"two")),
        (text_tensor([1], size=8), elements(b"one")),
        (text_tensor([1], size=6), elements(b"one")),
        (text_tensor([1], size=4), struct.pack("<I", 2**32 - 1)),
        (text_tensor([1], size="7"), elements(b"one")),
        (text_tensor([1], size=None), elements(b"one")),
        (text_tensor([1], ["a"]), b"more"),
        (text_tensor([2], ["a"]), b""),
        (text_tensor([1], ["a", "b"]), b""),
        (text_tensor([1], [1]), b""),
        (text_tensor([1], "a"), b""),
        (text_tensor([1], [["a"]]), b""),
        (text_tensor([1], [None]), b""),
        (text_tensor([], ["a"]), b""),
        (text_tensor([1, 1, 1], ["a"]), b""),
        (text_tensor([1, 2], ["a", "b"]), b""),
        (text_tensor([2, 0], []), b""),
        (text_tensor([0], []), b""),
        (text_tensor([1025], ["a"] * 1025), b""),
    ],
)
def test_a_bytes_tensor_that_contradicts_itself_is_refused(tensor, tail):
    with pytest.raises((BadTensor, BadRequest, TooManyRows)):
        read(sent({"inputs": [tensor]}, tail))


def test_five_million_empty_elements_are_refused_in_little_time():
    tail = bytes(4 * 5_000_000)
    request = sent({"inputs": [text_tensor([3], size=len(tail))]}, tail)
    start = time.process_time()
    with pytest.raises(BadTensor, match="elements"):
        read(request)
    assert time.process_time() - start < 0.2


def test_a_bytes_tensor_of_another_name_or_beside_another_is_refused():
    other = text_tensor([1], ["a"]) | {"name": "title"}
    for inputs in ([other], [text_tensor([1], ["a"]), other], [text_tensor([1], ["a"])] * 2):
        with pytest.raises(BadTensor):
            read(sent({"inputs": inputs}))


def test_metadata_names_every_tensor():
    described = oip.metadata("m", "1.0", (spec("int64", LENGTH),), (spec(name="y"),), "p")
    assert described["inputs"] == [{"name": "x", "datatype": "INT64", "shape": [-1, -1]}]
    assert described["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    assert described["versions"] == ["1.0"]


DEEP: Any = "x"
for _ in range(1_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2] * 400_000},
        {"shape": [2**62] * 400_000},
        {"shape": DEEP},
        {"name": DEEP},
        {"name": "n" * 10**6},
        {"datatype": DEEP},
        {"datatype": "d" * 10**6},
        {"parameters": {"binary_data_size": DEEP}},
        {"parameters": {"binary_data_size": "9" * 10**6}},
        {"parameters": DEEP},
        {"data": DEEP},
        {"data": ["x" * 10**6, *[0] * 1_000]},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("native", [False, True])
def test_a_value_that_makes_no_sense_costs_little_and_is_not_repeated(change, native):
    tensor = declared(np.zeros((1, 3), np.float32)) | change
    if native:
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]} | change
    start = time.process_time()
    with pytest.raises((BadRequest, BadTensor)) as caught:
        read(Request({"body": {"inputs": [tensor]}}))
    assert time.process_time() - start < 0.2
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "change",
    [{"id": DEEP}, {"id": {}}, {"outputs": [{"name": DEEP}]}, {"outputs": [{"name": "o" * 10**6}]}]
    + [{"outputs": [{"name": "logits"}] * 100_000}, {"outputs": DEEP}],
)
def test_nor_is_one_of_the_request(change):
    body = {"inputs": [declared(np.zeros((1, 3), np.float32))]} | change
    with pytest.raises((BadRequest, BadTensor)) as caught:
        read(Request({"body": body}))
    assert len(str(caught.value)) < 600


def test_texts_in_a_list_for_each_row_are_taken_as_numbers_are():
    tensor = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["a"], ["b"]]}
    assert read(Request({"body": {"inputs": [tensor]}})).items == (b"a", b"b")
