"""The handler for images on TorchServe's own context class, without the server around it."""

import base64
import json

import numpy as np
import pytest
import torch
from ts.context import Context, RequestProcessor

from shipway.artifact.bundle import open_artifact
from shipway.engines.torchserve.handler import Handler
from shipway.payloads.images import decode_image, decode_photo
from shipway.runtime.model import Model
from shipway.runtime.program import open_program
from shipway.tasks.classes import rank
from shipway.tasks.image_classification import ImageClassification
from tests.conftest import PHOTOS, encoded

GOOD = (PHOTOS / "chelsea.png").read_bytes()


def context(model_dir, batch_size: int, rows: int = 1, **headers: str) -> Context:
    made = Context("tiny", str(model_dir), None, batch_size, None, "0.12.0")
    made.request_processor = [RequestProcessor(dict(headers)) for _ in range(rows)]
    return made


@pytest.fixture(scope="module")
def model_dir(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "artifact").symlink_to(tiny.path)
    return folder


@pytest.fixture(scope="module")
def handler(model_dir) -> Handler:
    made = Handler()
    made.initialize(context(model_dir, batch_size=4))
    return made


def ask(handler, model_dir, bodies: list[bytes]):
    made = context(model_dir, 4, rows=len(bodies))
    replies = handler.handle([{"body": body} for body in bodies], made)
    return [json.loads(each) for each in replies], made


def test_ranking_is_softmax_sorted():
    logits_BK = np.array([[1.0, 3.0, 2.0, -50.0]], np.float32)
    (found,) = rank(logits_BK, ["a", "b", "c", "d"], 3)
    expected = torch.from_numpy(logits_BK).softmax(1)[0]
    assert [each["label"] for each in found] == ["b", "c", "a"]
    assert [each["class_id"] for each in found] == [1, 2, 0]
    for each in found:
        assert each["probability"] == pytest.approx(float(expected[each["class_id"]]), abs=1e-6)


def test_ranking_survives_logits_whose_exponential_overflows():
    (found,) = rank(np.array([[1e4, 0.0]], np.float32), ["a", "b"], 2)
    assert [each["probability"] for each in found] == [1.0, 0.0]


def test_a_good_row_gets_the_top_classes_as_json(handler, model_dir):
    (predictions,), made = ask(handler, model_dir, [GOOD])
    assert [set(each) for each in predictions] == [{"class_id", "label", "probability"}] * 5
    assert made.get_response_content_type(0) == "application/json"
    assert made.get_response_status(0)[0] == 200


def test_broken_rows_get_their_own_errors_and_their_neighbours_their_own_answers(
    handler, model_dir
):
    other = (PHOTOS / "coffee.png").read_bytes()
    bodies = [GOOD, b"no image", other, GOOD[:5000], b"", GOOD, b"{", other]
    replies, made = ask(handler, model_dir, bodies)
    statuses = [made.get_response_status(row)[0] for row in range(len(bodies))]
    assert statuses == [200, 415, 200, 400, 400, 200, 400, 200]
    assert [reply["type"] for reply in replies if isinstance(reply, dict)] == [
        "NotAnImage",
        "BadImage",
        "BadRequest",
        "BadRequest",
    ]
    (alone,), _ = ask(handler, model_dir, [GOOD])
    (other_alone,), _ = ask(handler, model_dir, [other])
    for row, expected in ((0, alone), (5, alone), (2, other_alone), (7, other_alone)):
        assert [each["class_id"] for each in replies[row]] == [
            each["class_id"] for each in expected
        ]
        for found, wanted in zip(replies[row], expected, strict=True):
            assert found["probability"] == pytest.approx(wanted["probability"], abs=1e-5)


def test_a_failure_nobody_foresaw_is_one_rows_own(handler, model_dir, monkeypatch):
    def explode(body, spec):
        if body == b"explode":
            raise RuntimeError("unforeseen")
        return decode_photo(body, spec)

    monkeypatch.setattr("shipway.tasks.images.decode_photo", explode)
    replies, made = ask(handler, model_dir, [GOOD, b"explode"])
    assert made.get_response_status(1)[0] == 500
    assert replies[1]["type"] == "InternalError"
    assert isinstance(replies[0], list)


def test_more_rows_than_the_programs_bound_are_answered_in_order(handler, model_dir):
    random = np.random.default_rng(3)
    bodies = [encoded(random.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(11)]
    replies, _ = ask(handler, model_dir, bodies)
    for body, reply in zip(bodies, replies, strict=True):
        (alone,), _ = ask(handler, model_dir, [body])
        assert reply[0]["probability"] == pytest.approx(alone[0]["probability"], abs=1e-5)


def test_the_handlers_answer_is_the_runtimes(handler, model_dir, tiny_artifact):
    manifest = tiny_artifact.manifest
    program = open_program(tiny_artifact, manifest.chosen, threads=1)
    pixels = decode_image(GOOD, manifest.preprocessing)
    (expected,) = rank(program.run([pixels[None]])[0], manifest.labels, manifest.top_k)
    (found,), _ = ask(handler, model_dir, [GOOD])
    for a, b in zip(found, expected, strict=True):
        assert a["class_id"] == b["class_id"]
        assert a["probability"] == pytest.approx(b["probability"], abs=1e-5)


def test_describe_says_what_runs(handler, model_dir, tiny_artifact):
    made = context(model_dir, 4, describe="True")
    (reply,) = handler.handle([{}], made)
    described = json.loads(reply)
    assert described["program"] == tiny_artifact.manifest.chosen
    assert described["artifact"] == tiny_artifact.digest
    assert described["fell_back_because"] is None


def test_decoding_in_threads_keeps_every_row_its_own(handler, tiny_artifact):
    random = np.random.default_rng(5)
    bodies = [encoded(random.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(64)]
    spec = tiny_artifact.manifest.preprocessing
    expected = [decode_image(body, spec) for body in bodies]
    staging_BHWC = handler.service.model.staging[0]
    for found, wanted in zip(handler.service._task.decode(bodies), expected, strict=True):
        pixels = staging_BHWC[found.row] if isinstance(found.row, int) else found.row[0]
        assert np.array_equal(pixels, wanted)


def test_an_image_in_a_bytes_tensor_may_be_in_base64(tiny):
    task = ImageClassification(Model(open_artifact(tiny.path)))
    text = base64.b64encode(GOOD)
    assert task.parse_bytes(text) == task.parse_bytes(GOOD) == GOOD
    assert task.parse_bytes(b"data:image/png;base64," + text) == GOOD


def test_a_list_of_images_gets_a_list_of_answers(handler, model_dir):
    text = base64.b64encode(GOOD).decode()
    bodies = [json.dumps(text).encode(), json.dumps([text, text]).encode()]
    (one, two), _ = ask(handler, model_dir, bodies)
    assert two == [one, one]


def test_an_explanation_is_refused_and_a_prediction_with_a_describe_header_is_answered(
    handler, model_dir
):
    explained = context(model_dir, 4, explain="True")
    [reply] = handler.handle([{"body": GOOD}], explained)
    assert json.loads(reply)["code"] == 501 and b"/predictions/" in reply
    assert explained.get_response_status(0)[0] == 501
    [reply] = handler.handle([{"body": GOOD}], context(model_dir, 4, describe="True"))
    assert json.loads(reply)[0]["class_id"] >= 0
    [reply] = handler.handle([{}], context(model_dir, 4, describe="True"))
    assert json.loads(reply)["name"] == "tiny"
