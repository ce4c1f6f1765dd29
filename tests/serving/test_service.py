"""Every task in every form gets the model's own outputs, whatever came in beside it."""

import base64
import gc
import io
import json
import logging
import pickle
import sys
import time

import numpy as np
import pytest
from ts.context import Context, RequestProcessor

from shipway.engines.torchserve.handler import Handler
from shipway.payloads.images import decode_image
from shipway.payloads.request import HEADER_LENGTH, Request
from shipway.payloads.texts import Texts, Tokens
from shipway.runtime.backends.errors import DeviceLost
from shipway.runtime.model import Model
from shipway.serving.service import Service
from shipway.tasks.classes import rank
from tests.conftest import encoded
from tests.serving.test_oip import declared, elements

JSON = {"content-type": "application/json"}
TASKS = ("images", "classifier", "embedding", "table", "array", "tensors")
WORDS = ("cat", "dog", "ship", "sea", "mat", "slowly", "over", "unbelievable", "Ångström", "🚢")


class Served:
    """One task's service, inputs in its natural form, and the answers that each must get."""

    def __init__(self, task: str, artifact) -> None:
        self.task, self.artifact = task, artifact
        self.model = Model(artifact)
        self.service = Service(self.model)
        self.manifest = artifact.manifest
        spec = self.manifest.preprocessing
        self.texts = Texts(artifact.path / spec.tokenizer, spec) if spec.kind == "text" else None

    def inputs(self, count: int, seed: int = 0) -> list:
        """Different ones."""
        random = np.random.default_rng(seed)
        match self.task:
            case "images":
                return [encoded(random.integers(0, 256, (9, 9, 3), np.uint8)) for _ in range(count)]
            case "classifier" | "embedding":
                sizes = random.integers(1, 40, count)
                return [" ".join(random.choice(WORDS, size)) for size in sizes]
            case "table" | "array":
                return random.normal(size=(count, 5)).round(3).tolist()
        lengths = random.integers(2, 17, count)
        return [
            {
                "values": random.normal(size=(6, t)).round(3).tolist(),
                "which": random.integers(0, 10, (1, t)).tolist(),
            }
            for t in lengths
        ]

    def row(self, item) -> tuple[np.ndarray, ...]:
        """The item as the program takes it, without the batch axis."""
        if self.task == "images":
            return (decode_image(item, self.manifest.preprocessing),)
        if self.texts is not None:
            (found,) = self.texts.encode([item])
            assert isinstance(found, Tokens)
            return found.ids, np.ones_like(found.ids)
        if isinstance(item, dict):
            return tuple(np.array(item[each.name], each.dtype) for each in self.manifest.inputs)
        return (np.array(item, np.float32),)

    def outputs(self, item) -> np.ndarray:
        """The model's own, for this item alone."""
        (found,) = self.model.run([self.row(item)])
        return found.outputs[0]

    def natural(self, item) -> Request:
        match self.task:
            case "images":
                return Request({"body": item})
            case "classifier" | "embedding":
                return Request({"body": item.encode()}, {"content-type": "text/plain"})
            case "table":
                return Request({"body": json.dumps(item).encode()}, JSON)
            case "array":
                return Request({"body": json.dumps([item]).encode()}, JSON)
        body = {name: [value] for name, value in item.items()}
        return Request({"body": json.dumps(body).encode()}, JSON)

    def tensors(self, items) -> list[tuple[str, np.ndarray]]:
        """The v2 inputs of several items: the texts' padded to the longest."""
        rows = [self.row(each) for each in items]
        found = []
        for place, spec in enumerate(self.manifest.inputs):
            column = [row[place] for row in rows]
            if self.texts is not None:
                longest = max(2, *map(len, column))
                column = [np.pad(each, (0, longest - len(each))) for each in column]
            found.append((spec.name, np.stack(column)))
        return found

    def v2(self, items, *, binary: bool, **more) -> Request:
        tensors = self.tensors(items)
        body = {"inputs": [declared(a, name, binary=binary) for name, a in tensors]} | more
        header = json.dumps(body).encode()
        if not binary:
            return Request({"body": header}, JSON)
        tail = b"".join(array.tobytes() for _, array in tensors)
        return Request({"body": header + tail}, {HEADER_LENGTH: str(len(header))})

    def v2_bytes(self, items) -> Request:
        """The natural form in a BYTES tensor."""
        natural = {"images": "image", "table": "row", "array": "npy"}.get(self.task, "text")
        data = [self.as_bytes(each) for each in items]
        tail = elements(*data)
        tensor = {"name": natural, "shape": [len(data)], "datatype": "BYTES"} | {
            "parameters": {"binary_data_size": len(tail)}
        }
        header = json.dumps({"inputs": [tensor]}).encode()
        return Request({"body": header + tail}, {HEADER_LENGTH: str(len(header))})

    def as_bytes(self, item) -> bytes:
        if self.task == "array":
            return npy(np.array(item, np.float32))
        if isinstance(item, bytes):
            return item
        return item.encode() if isinstance(item, str) else json.dumps(item).encode()

    def is_answer(self, answer, item) -> None:
        """Whether a natural answer is that of the item."""
        expected = self.outputs(item)
        if self.task in ("images", "table", "classifier"):
            answer = answer["predictions"] if self.task == "classifier" else answer
            (wanted,) = rank(expected[None], self.manifest.labels, self.manifest.top_k)
            assert [each["label"] for each in answer] == [each["label"] for each in wanted]
            answer = [each["probability"] for each in answer]
            expected = np.array([each["probability"] for each in wanted])
        else:
            answer = answer[self.manifest.outputs[0].name]
        np.testing.assert_allclose(np.array(answer), expected, atol=1e-5)


def npy(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def tensors_of(body: bytes, headers) -> dict[str, np.ndarray]:
    """The tensors of a v2 reply, JSON or binary."""
    length = int(headers.get("Inference-Header-Content-Length", len(body)))
    described, tail = json.loads(body[:length])["outputs"], body[length:]
    found = {}
    for each in described:
        if "data" in each:
            array = np.array(each["data"], np.float32)
        else:
            size = each["parameters"]["binary_data_size"]
            array, tail = np.frombuffer(tail[:size], np.float32), tail[size:]
        found[each["name"]] = array.reshape(each["shape"])
    assert not tail
    return found


def outputs_of(reply) -> dict[str, np.ndarray]:
    assert reply.status == 200, reply.body
    return tensors_of(reply.body, reply.headers)


@pytest.fixture(scope="module")
def served(request, tiny_artifact, tiny_classifier, tiny_embedding, tiny_table, tiny_array):
    artifacts = {
        "images": tiny_artifact,
        "classifier": tiny_classifier,
        "embedding": tiny_embedding,
        "table": tiny_table,
        "array": tiny_array,
    }
    made: dict[str, Served] = {}

    def get(task: str) -> Served:
        if task not in made:
            artifact = artifacts.get(task) or request.getfixturevalue("tiny_tensors")
            made[task] = Served(task, artifact)
        return made[task]

    return get


@pytest.fixture(params=TASKS)
def one(request, served) -> Served:
    return served(request.param)


def only(service: Service, request: Request):
    (reply,) = service.answer([request])
    return reply


def good(reply):
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def bad(reply, status: int, says: str = "") -> dict:
    error = json.loads(reply.body)
    assert reply.status == error["code"] == status, error
    assert says in error["message"]
    assert len(error["message"]) < 2000
    return error


def test_the_natural_form_gets_the_models_own_answer(one):
    items = one.inputs(7)
    for item, reply in zip(items, one.service.answer([*map(one.natural, items)]), strict=True):
        answer = good(reply)
        one.is_answer(answer[0] if one.task in ("array", "tensors") else answer, item)


@pytest.mark.parametrize("binary", [True, False])
def test_v2_tensors_get_the_models_own_outputs(one, binary):
    for item in one.inputs(5):
        reply = only(one.service, one.v2([item], binary=binary, id="me"))
        assert json.loads(reply.body)["id"] == "me"
        (found,) = outputs_of(reply).values()
        np.testing.assert_allclose(found[0], one.outputs(item), atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_many_rows_of_one_request_are_answered_in_order(one, binary):
    items = one.inputs(11)
    if one.task == "tensors":
        items = [each for each in one.inputs(60) if len(each["which"][0]) == 9] * 4
    reply = only(one.service, one.v2(items, binary=binary))
    (found,) = outputs_of(reply).values()
    for output, item in zip(found, items, strict=True):
        np.testing.assert_allclose(output, one.outputs(item), atol=1e-5)


def test_the_natural_form_in_a_bytes_tensor_gets_the_models_own_outputs(one):
    if one.task == "tensors":
        pytest.skip("a .npy file holds one array, and this model takes two")
    items = one.inputs(6)
    (found,) = outputs_of(only(one.service, one.v2_bytes(items))).values()
    for output, item in zip(found, items, strict=True):
        np.testing.assert_allclose(output, one.outputs(item), atol=1e-5)


def test_binary_outputs_may_be_asked_for_by_every_form(one):
    (item,) = one.inputs(1)
    for request in (one.natural(item), one.v2([item], binary=False), one.v2([item], binary=True)):
        headers = {**request.headers, "accept": "application/octet-stream"}
        reply = only(one.service, Request(request.fields, headers))
        assert reply.headers["content-type"] == "application/octet-stream"
        (found,) = outputs_of(reply).values()
        np.testing.assert_allclose(found[0], one.outputs(item), atol=1e-5)
    asked = one.v2([item], binary=False, parameters={"binary_data_output": True})
    assert only(one.service, asked).headers["content-type"] == "application/octet-stream"


def test_inputs_in_another_order_than_the_models_are_told_apart_by_name(served):
    for one in (served("classifier"), served("tensors")):
        (item,) = one.inputs(1)
        tensors = one.tensors([item])[::-1]
        body = {"inputs": [declared(a, name, binary=True) for name, a in tensors]}
        header = json.dumps(body).encode()
        tail = b"".join(array.tobytes() for _, array in tensors)
        request = Request({"body": header + tail}, {HEADER_LENGTH: str(len(header))})
        (found,) = outputs_of(only(one.service, request)).values()
        np.testing.assert_allclose(found[0], one.outputs(item), atol=1e-5)


def bad_requests(one: Served) -> list[tuple[Request, int]]:
    """One of each kind, with the status it must get."""
    (item,) = one.inputs(1, seed=9)
    v2, binary = one.v2([item], binary=False), one.v2([item], binary=True)
    nothing = json.loads(v2.fields["body"])
    wrong_shape = {
        "inputs": [each | {"shape": [10**12, *each["shape"][1:]]} for each in nothing["inputs"]]
    }
    wrong_type = {"inputs": [each | {"datatype": "FP64"} for each in nothing["inputs"]]}
    found = [
        (Request({}), 400),
        (Request({"picture": b"x"}), 400),
        (Request({"body": b""}), 400),
        (Request({"body": b"{"}, JSON), 400),
        (Request({"body": b"{}"}, JSON), 400),
        (Request({"body": b"null"}, JSON), 415 if one.task == "images" else 400),
        (Request({"body": json.dumps(wrong_shape).encode()}, JSON), 413),
        (Request({"body": json.dumps(wrong_type).encode()}, JSON), 400),
        (Request(v2.fields, {HEADER_LENGTH: "-5"}), 400),
        (Request(v2.fields, {HEADER_LENGTH: "9" * 5000}), 400),
        (Request(v2.fields, {HEADER_LENGTH: "7", "content-encoding": "gzip"}), 415),
        (Request({"body": binary.fields["body"][:-1]}, binary.headers), 400),
        (Request({"body": binary.fields["body"] + b"x"}, binary.headers), 400),
        (one.v2([item], binary=True, outputs=[{"name": "nothing"}]), 400),
    ]
    if one.task != "images":
        found += [
            (Request({"body": b"x"}, {"content-type": "application/xml"}), 415),
            (Request({"body": b"[]"}, JSON), 400),
            (Request({"body": b"3"}, JSON), 400),
        ]
    if one.texts is not None:
        ids = np.array([[101, 40_000, 102]])
        length = len(one.row(item)[0])
        for changes in (
            {"input_ids": ids, "attention_mask": np.ones_like(ids)},
            {"input_ids": -ids, "attention_mask": np.ones_like(ids)},
            {"input_ids": ids % 99, "attention_mask": 2 * np.ones_like(ids)},
            {"input_ids": ids % 99, "attention_mask": np.zeros_like(ids)},
            {"input_ids": ids % 99, "attention_mask": np.ones((1, length + 20), np.int64)},
            {"input_ids": ids % 99, "attention_mask": np.ones((1, 2), np.int64)},
        ):
            body = {"inputs": [declared(array, name) for name, array in changes.items()]}
            found.append((Request({"body": json.dumps(body).encode()}, JSON), 400))
        found += [
            (Request({"body": b"\xff\xfe"}, {"content-type": "text/plain"}), 400),
            (Request({"body": b"\xff\xfe"}), 400),
            (Request({"body": b'["a", 3]'}, JSON), 400),
            (Request({"body": json.dumps("x" * 1_000_001).encode()}, JSON), 413),
            (Request({"body": json.dumps(["x"] * 1025).encode()}, JSON), 413),
            (Request({"body": "half a \ud83d pair"}), 400),
        ]
    if one.task == "embedding":
        found.append((Request({"body": b"far too long " * 100}), 413))
    if one.task == "table":
        found += [
            (Request({"body": body}, JSON), 400)
            for body in (
                b"[1, 2, 3, 4]",
                b"[1, 2, 3, 4, null]",
                b'[1, 2, 3, 4, "5"]',
                b"[1, 2, 3, 4, 1e39]",
                b"[[1], [2], [3], [4], [5]]",
                b'{"height": 1}',
                b"[[1, 2, 3, 4, 5], 6]",
                b"[[1, 2, 3, 4, 5], [1, 2]]",
                b'{"rows": []}',
            )
        ]
    if one.task == "array":
        found += [
            (Request({"body": body}), 400) for body in (b"\x93NUMPY", b"PK\x03\x04", b"[[1]]")
        ]
    return found


def test_neighbours_of_every_bad_request_get_their_own_answers(one, caplog):
    """One batch: a good request after each bad one, in all good forms in turn."""
    refused = bad_requests(one)
    items = one.inputs(len(refused), seed=3)
    batch: list[Request] = []
    for place, ((request, _), item) in enumerate(zip(refused, items, strict=True)):
        form = place % 3
        good_one = one.natural(item) if not form else one.v2([item], binary=form == 1)
        batch += [request, good_one]
    with caplog.at_level(logging.ERROR):
        replies = one.service.answer(batch)
    assert not caplog.records  # nothing was unforeseen
    for place, ((request, status), item) in enumerate(zip(refused, items, strict=True)):
        error = bad(replies[2 * place], status)
        said = str(request.fields.get("body"))
        assert ("error" in error) == (HEADER_LENGTH in request.headers or "datatype" in said)
        reply = replies[2 * place + 1]
        if place % 3:
            (found,) = outputs_of(reply).values()
            np.testing.assert_allclose(found[0], one.outputs(item), atol=1e-5)
        else:
            answer = good(reply)
            one.is_answer(answer[0] if one.task in ("array", "tensors") else answer, item)


def test_every_reply_says_what_answered_and_how_long_it_took(one):
    (item,) = one.inputs(1)
    requests = [one.natural(item), Request({}), one.v2([item], binary=True)]
    for reply in one.service.answer(requests):
        assert reply.headers["Shipway-Version"] == "1.0"
        assert reply.headers["Shipway-Artifact"] == one.artifact.digest
        assert reply.headers["Shipway-Program"] == one.manifest.chosen
        parts = [each.split(";dur=") for each in reply.headers["Server-Timing"].split(", ")]
        timing = {name: float(value) for name, value in parts}
        assert list(timing) == ["decode", "preprocess", "inference", "postprocess", "total"]
        assert all(each >= 0 for each in timing.values())
        if reply.status == 200:
            assert timing["inference"] > 0
            assert int(reply.headers["Shipway-Batch"]) >= 1


@pytest.mark.parametrize(
    ("sent", "least_ms", "most_ms"),
    [
        (lambda now: f"t={now - 0.5:.3f}", 490, 5000),
        (lambda now: f"{now - 0.5}", 490, 5000),
        (lambda now: f"{now + 100}", 0, 0),
    ],
)
def test_the_queue_is_measured_from_x_request_start(served, sent, least_ms, most_ms):
    request = served("table").natural([1, 2, 3, 4, 5])
    headers = {**request.headers, "x-request-start": sent(time.time())}
    reply = only(served("table").service, Request(request.fields, headers))
    assert reply.headers["Server-Timing"].startswith("queue;dur=")
    queue_ms = float(reply.headers["Server-Timing"].split(",")[0].partition("=")[2])
    assert least_ms <= queue_ms <= most_ms


@pytest.mark.parametrize("value", ["", "t=", "soon", "nan", "inf", "-5", "0"])
def test_an_x_request_start_that_is_no_time_is_left_out(served, value):
    request = served("table").natural([1, 2, 3, 4, 5])
    headers = {**request.headers, "x-request-start": value}
    reply = only(served("table").service, Request(request.fields, headers))
    assert reply.status == 200
    assert "queue" not in reply.headers["Server-Timing"]


def test_a_list_of_texts_is_answered_by_a_list(served):
    for task in ("classifier", "embedding"):
        one = served(task)
        items = one.inputs(9)
        for body in (items, {"texts": items}, {"text": items}):
            reply = only(one.service, Request({"body": json.dumps(body).encode()}, JSON))
            for answer, item in zip(good(reply), items, strict=True):
                one.is_answer(answer, item)
        assert isinstance(good(only(one.service, Request({"body": b'["a"]'}, JSON))), list)
        assert isinstance(good(only(one.service, Request({"body": b'"a"'}, JSON))), dict)


def test_rows_are_taken_as_lists_and_by_column(served):
    one = served("table")
    items = one.inputs(3)
    columns = one.manifest.preprocessing.names
    by_name = [dict(zip(reversed(columns), reversed(each), strict=True)) for each in items]
    for body in (items, by_name, {"rows": items}, {"data": by_name}, [items[0], *by_name[1:]]):
        reply = only(one.service, Request({"body": json.dumps(body).encode()}, JSON))
        for answer, item in zip(good(reply), items, strict=True):
            one.is_answer(answer, item)
    reply = only(one.service, Request({"body": json.dumps(by_name[0]).encode()}))
    one.is_answer(good(reply), items[0])


@pytest.mark.parametrize(
    ("task", "body", "status"),
    [
        ("table", b"[[1,2,3,4,5],[1,2],[1,2,3,4,5]]", 400),
        ("table", b"[[1,2,3,4,5],7,[1,2,3,4,5]]", 400),
        ("embedding", json.dumps(["a", "too long " * 200, "b"]).encode(), 413),
        ("classifier", json.dumps(["a", "x" * 1_000_001, "b"]).encode(), 413),
    ],
)
def test_one_bad_item_of_a_list_names_its_place(served, task, body, status):
    bad(only(served(task).service, Request({"body": body}, JSON)), status, "Input 1: ")


@pytest.mark.parametrize(
    ("task", "broken", "status"),
    [("images", b"no image", 415), ("classifier", b"\xff", 400), ("table", b"[1", 400)]
    + [("array", b"\x93NUMPY", 400), ("images", b"", 415)],
)
def test_one_bad_element_of_a_bytes_tensor_names_its_place(served, task, broken, status):
    one = served(task)
    first, last = one.inputs(2)
    request = one.v2_bytes([first, last])
    name = json.loads(request.fields["body"][: int(request.headers[HEADER_LENGTH])])
    tail = elements(one.as_bytes(first), broken, one.as_bytes(last))
    name["inputs"][0] |= {"shape": [3], "parameters": {"binary_data_size": len(tail)}}
    header = json.dumps(name).encode()
    request = Request({"body": header + tail}, {HEADER_LENGTH: str(len(header))})
    bad(only(one.service, request), status, "Input 1: ")


def test_a_truncated_text_is_noted_in_every_form(served):
    one = served("classifier")
    long, short = "ship " * 500, "ship"
    found = good(only(one.service, Request({"body": json.dumps([long, short]).encode()}, JSON)))
    assert [(each["tokens"], each["truncated"]) for each in found] == [(64, True), (3, False)]
    described = good(only(one.service, one.v2_bytes([long, short])))
    assert described["parameters"] == {"tokens": [64, 3], "truncated": [True, False]}


@pytest.mark.parametrize(
    "text",
    [
        '{"inputs" is how the story begins}',
        '{"inputs": [1, 2',
        '{"text": "unfinished',
        "[not JSON at all]",
        '"quoted" at first',
        "{",
    ],
)
@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain; charset=utf-8"}])
def test_a_text_that_looks_like_json_is_a_text(served, text, headers):
    one = served("classifier")
    one.is_answer(good(only(one.service, Request({"body": text.encode()}, headers))), text)


def test_v2_json_sent_as_plain_text_is_a_text(served):
    one = served("classifier")
    text = one.v2(["a cat"], binary=False).fields["body"].decode()
    request = Request({"body": text.encode()}, {"content-type": "text/plain"})
    one.is_answer(good(only(one.service, request)), text)


@pytest.mark.parametrize("kind", ["multipart/form-data", "application/x-www-form-urlencoded"])
def test_a_field_of_a_form_is_an_input(served, kind):
    one = served("classifier")
    request = Request({"text": b"a cat"}, {"content-type": f"{kind}; boundary=x"})
    one.is_answer(good(only(one.service, request)), "a cat")


def test_base64_in_json_is_an_image(served):
    one = served("images")
    (item,) = one.inputs(1)
    body = json.dumps({"image": base64.b64encode(item).decode()}).encode()
    one.is_answer(good(only(one.service, Request({"body": body}, JSON))), item)


def test_a_failure_of_the_model_is_one_requests_own(served, monkeypatch, caplog):
    """The model is given an id that passed every check; here because the check is blind."""
    one = served("classifier")
    monkeypatch.setattr(one.service._task, "check", lambda arrays: None)
    ids = np.array([[101, 2_000_000, 102]])
    body = {"inputs": [declared(ids, "input_ids"), declared(ids * 0 + 1, "attention_mask")]}
    failing = Request({"body": json.dumps(body).encode()}, JSON)
    items = one.inputs(4)
    replies = one.service.answer(
        [failing, *map(one.natural, items[:2]), failing] + [*map(one.natural, items[2:])]
    )
    assert "failed on this input" in bad(replies[0], 500)["message"]
    bad(replies[3], 500)
    for reply, item in zip([*replies[1:3], *replies[4:]], items, strict=True):
        one.is_answer(good(reply), item)


def test_outputs_that_are_not_finite_are_an_error_and_no_json_null(served, monkeypatch):
    one = served("table")
    run = one.model._program.run

    class Overflowing:
        def run(self, inputs):
            outputs = run(inputs)
            outputs[0][inputs[0][:, 0] > 50] = np.nan
            return outputs

    monkeypatch.setattr(one.model, "_program", Overflowing())
    replies = one.service.answer([*map(one.natural, ([1, 2, 3, 4, 5], [99, 2, 3, 4, 5]))])
    one.is_answer(good(replies[0]), [1, 2, 3, 4, 5])
    bad(replies[1], 422, "infinite or NaN")


def test_a_tokenizer_that_fails_on_one_text_answers_the_others(served, monkeypatch):
    one = served("classifier")
    encode = one.service._task._texts.encode

    def explode(texts, **options):
        if "explode" in texts:
            raise RuntimeError("unforeseen")
        return encode(texts, **options)

    monkeypatch.setattr(one.service._task._texts, "encode", explode)
    replies = one.service.answer([*map(one.natural, ("a cat", "explode", "a dog"))])
    bad(replies[1], 500)
    one.is_answer(good(replies[0]), "a cat")
    one.is_answer(good(replies[2]), "a dog")


def header(descr: str, shape: str, version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 * version, "little") + text


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


NPY = np.arange(10, dtype=np.float32).reshape(2, 5)


@pytest.mark.parametrize(
    "array",
    [NPY, NPY[:1], np.asfortranarray(NPY), np.repeat(NPY, 2, axis=1)[:, ::2]],
    ids=["two rows", "one row", "in columns", "strided"],
)
def test_a_npy_body_is_answered_row_by_row(served, array):
    one = served("array")
    for headers in ({}, {"content-type": "application/x-npy"}):
        reply = only(one.service, Request({"body": npy(array)}, headers))
        for answer, row in zip(good(reply), array, strict=True):
            one.is_answer(answer, row.tolist())


def test_a_npy_file_of_format_two_is_read(served):
    body = header("'<f4'", "(2, 5)", version=2) + NPY.tobytes()
    assert len(good(only(served("array").service, Request({"body": body})))) == 2


@pytest.mark.parametrize(
    ("body", "status", "says"),
    {
        "an object": (npy(np.array([Evil()], object), allow_pickle=True), 400, "has dtype object"),
        "a pickle": (b"\x93NUMPY" + pickle.dumps(Evil()), 400, "not a .npy file"),
        "float64": (
            npy(NPY.astype(np.float64)),
            400,
            "has dtype float64; 'features' needs float32 (FP32",
        ),
        "big endian": (npy(NPY.astype(">f4")), 400, "has dtype >f4"),
        "strings": (npy(np.array([["a"] * 5])), 400, "has dtype <U1"),
        "structured": (npy(np.zeros(2, [("a", "<f4", 5)])), 400, "this"),
        "another shape": (npy(NPY.reshape(5, 2)), 400, "[5, 2]"),
        "no axis": (npy(NPY[0, 0]), 400, "[]"),
        "no rows": (npy(NPY[:0]), 400, "at least one"),
        "NaN": (npy(NPY * np.nan), 400, "NaN"),
        "cut short": (npy(NPY)[:-1], 400, "the body contains 39"),
        "trailing bytes": (npy(NPY) + b"x", 400, "the body contains 41"),
        "the magic alone": (b"\x93NUMPY", 400, "not a .npy file"),
        "a header cut short": (npy(NPY)[:30], 400, "not a .npy file"),
        "format 9": (b"\x93NUMPY\x09\x00" + npy(NPY)[8:], 400, "not a .npy file"),
        "a header of words": (header("'<f4'", "(2, x)"), 400, "not a .npy file"),
        "a header of code": (header("'<f4'", "__import__('os').abort()"), 400, "not a .npy file"),
        "a header of parentheses": (header("'<f4'", "(" * 5000), 400, "not a .npy file"),
        "a very long header": (header("'<f4'", "(" + "1," * 20_000 + ")"), 400, "not a .npy file"),
        "a trillion rows": (header("'<f4'", "(1000000000000, 5)"), 413, "1,000,000,000,000 rows"),
        "a trillion columns": (header("'<f4'", "(1, 1000000000000)"), 400, "this model takes"),
        "too many rows": (header("'<f4'", "(1025, 5)"), 413, "at most 1,024"),
        "fewer than none": (header("'<f4'", "(-2, 5)") + NPY.tobytes(), 400, ""),
    }.values(),
)
def test_a_npy_body_that_is_not_what_the_model_takes_is_refused_at_once(
    served, body, status, says, caplog
):
    start = time.process_time()
    found = bad(only(served("array").service, Request({"body": bytearray(body)})), status)
    assert time.process_time() - start < 1
    assert says.replace("this", "") in found["message"]
    assert not caplog.records


def test_a_model_of_two_inputs_takes_no_npy(served):
    bad(only(served("tensors").service, Request({"body": npy(NPY)})), 400, "takes 2 inputs")


def test_names_and_values_of_any_length_make_no_long_message(served):
    for task in TASKS:
        for body in ({"y" * 1_000_000: 1}, {"a": "y" * 1_000_000}, ["y" * 100_000], "y" * 100_000):
            reply = only(served(task).service, Request({"body": json.dumps(body).encode()}, JSON))
            assert len(reply.body) < 2000


def test_a_thousand_rows_of_one_request_are_answered(served):
    one = served("table")
    items = one.inputs(1024)
    reply = only(one.service, Request({"body": json.dumps(items).encode()}, JSON))
    for answer, item in [*zip(good(reply), items, strict=True)][::100]:
        one.is_answer(answer, item)


def test_an_empty_batch_gets_no_replies(one):
    assert one.service.answer([]) == []


def test_a_lost_device_is_told_to_the_server(served, monkeypatch):
    one = served("table")

    class Lost:
        def run(self, inputs):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(one.model, "_program", Lost())
    with pytest.raises(DeviceLost):
        one.service.answer([one.natural([1, 2, 3, 4, 5])])


def test_a_sender_who_asks_for_a_description_changes_nothing_for_its_neighbours(served):
    """TorchServe tells a handler with a header, which any sender may send as well."""
    one = served("table")
    handler = Handler()
    handler.service = one.service
    made = Context("table", "", None, 4, None, "0.12.0")
    made.request_processor = [RequestProcessor({"describe": "True"}), RequestProcessor({})]
    body = json.dumps([1, 2, 3, 4, 5]).encode()
    replies = handler.handle([{"body": body}, {"body": body}], made)
    one.is_answer(json.loads(replies[1]), [1, 2, 3, 4, 5])


def test_the_description_names_the_tensors(one):
    described = one.service.describe()
    assert described["task"] == one.manifest.task
    assert [each["name"] for each in described["metadata"]["inputs"]] == [
        each.name for each in one.manifest.inputs
    ]
    json.dumps(described)


def test_an_answer_over_the_limit_is_refused_with_its_size_and_the_next_is_given(served):
    table = served("table")
    service = Service(Model(table.artifact), most_reply_bytes=2_000)
    row = [1, 2, 3, 4, 5]
    rows = Request({"body": json.dumps([row] * 100).encode()}, JSON)
    reply = only(service, rows)
    said = bad(reply, 413, "The answer has ")
    assert said["type"] == "ReplyTooLarge" and len(reply.body) < 2_000
    good(only(service, table.natural(row)))


def test_rows_that_run_in_parts_get_the_same_answers(one):
    items = one.inputs(40)
    if one.task == "tensors":
        items = [each for each in one.inputs(60) if len(each["which"][0]) == 9] * 8
    service = Service(Model(one.artifact, staged=False))
    request = one.v2(items, binary=True)
    [whole] = one.service.answer([request])
    pending = service.read(request, time.time(), time.perf_counter())
    assert service.expected_ms(pending) > 0
    parts = 1
    while not service.advance(pending, within_ms=service.expected_ms(pending) / 8 + 1e-3):
        assert len(pending.results) < len(pending.rows)
        parts += 1
    assert parts > 2 and service.expected_ms(pending) == 0
    [reply] = service.finish([pending])
    assert reply.status == 200 and pending.ran_ms > 0
    for name, array in outputs_of(reply).items():
        np.testing.assert_allclose(array, outputs_of(whole)[name], atol=1e-5)


def test_a_request_whose_deadline_passes_between_its_parts_is_refused(served):
    table = served("table")
    service = Service(Model(table.artifact, staged=False))
    request = table.natural([[1, 2, 3, 4, 5]] * 100)
    headers = request.headers | {"x-envoy-expected-rq-timeout-ms": "60000"}
    request = Request(request.fields, headers)
    pending = service.read(request, time.time(), time.perf_counter())
    assert not service.advance(pending, within_ms=1e-6)
    pending.received -= 120
    assert service.advance(pending, within_ms=1e-6)
    [reply] = service.finish([pending])
    assert reply.status == 504 and 0 < len(pending.results) < 100


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("content_type", ["application/json", "image/jpeg", "application/pdf"])
@pytest.mark.parametrize("many", [False, True])
def test_a_refused_request_is_forgotten_with_its_reply(served, task, content_type, many):
    """Without waiting until Python looks for objects that refer to each other."""
    body = b"[" * 3_000 + b"\xff"
    fields = {f"field{place}" if many else "body": body for place in range(2)}
    service = served(task).service
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(body)
        [reply] = service.answer([Request(dict(fields), {"content-type": content_type})])
        assert reply.status >= 400
        assert sys.getrefcount(body) == before
    finally:
        gc.enable()
