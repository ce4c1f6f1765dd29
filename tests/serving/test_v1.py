"""KServe's first protocol, for every task: predictions are what the native payload gets."""

import base64
import json

import numpy as np
import pytest

from shipway.payloads.request import MAX_ROWS, Request
from shipway.runtime.model import Model
from shipway.serving.service import Service
from tests.conftest import encoded


@pytest.fixture
def asked():
    """What a service says to a body: status and value."""

    def ask(service: Service, body: object, protocol: str = "v1"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        [reply] = service.answer([Request({"body": data}, headers, "mine", protocol)])
        return reply.status, json.loads(reply.body)

    return ask


def instances(*values: object) -> dict[str, object]:
    return {"instances": list(values)}


def test_images_are_base64(tiny_artifact, asked):
    service = Service(Model(tiny_artifact))
    random = np.random.default_rng(0)
    images = [encoded(random.integers(0, 256, (20, 20, 3), np.uint8)) for _ in range(2)]
    alone = []
    for image in images:
        [reply] = service.answer([Request({"body": image})])
        alone.append(json.loads(reply.body))
    status, said = asked(
        service, instances(*({"b64": base64.b64encode(image).decode()} for image in images))
    )
    assert status == 200
    for found, expected in zip(said["predictions"], alone, strict=True):
        assert [each["class_id"] for each in found] == [each["class_id"] for each in expected]
    status, said = asked(service, instances({"b64": "AAAA"}))
    assert status == 415 and said["error"].startswith("Input 0: ")


def test_an_instance_may_name_its_image(tiny_artifact, asked):
    service = Service(Model(tiny_artifact))
    image = encoded(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8))
    text = base64.b64encode(image).decode()
    status, plain = asked(service, instances({"b64": text}))
    assert status == 200
    for instance in (text, {"image": text}, {"image": {"b64": text}}, {"data": {"b64": text}}):
        assert asked(service, instances(instance)) == (200, plain)
    for wrong, reason in (
        ({"picture": {"b64": text}}, "its fields are `picture`"),
        ({"image": {"b64": text}, "top_k": 3}, "have no meaning: `top_k`"),
        ({"image": {"b64": 1}}, "The b64 is a JSON number"),
        ([text], "An instance is a list of inputs"),
        (5, "The image is a JSON number"),
        (None, "The image is a JSON null"),
    ):
        status, said = asked(service, instances(wrong))
        assert status == 400 and reason in said["error"], said


def test_rows_of_a_table_are_lists_or_objects(tiny_table, asked):
    service = Service(Model(tiny_table))
    row = [0.1, -0.2, 0.3, 0.4, 0.5]
    columns = tiny_table.manifest.preprocessing.names
    status, said = asked(service, instances(row, dict(zip(columns, row, strict=True))))
    native = asked(service, [row, row], protocol="")
    assert (status, said["predictions"]) == native
    status, said = asked(service, instances(row, row[:2]))
    assert status == 400 and said["error"].startswith("Input 1: The row has 2 numbers")


def test_texts_are_strings(tiny_classifier, asked):
    service = Service(Model(tiny_classifier))
    texts = ["cat and dog", "a ship at sea"]
    status, said = asked(service, instances(*texts))
    assert (status, said["predictions"]) == asked(service, texts, protocol="")


def test_an_instance_may_name_its_text_and_no_other_json_is_taken_for_one(tiny_classifier, asked):
    service = Service(Model(tiny_classifier))
    text = "cat and dog"
    coded = {"b64": base64.b64encode(text.encode()).decode()}
    _, plain = asked(service, instances(text))
    for instance in ({"text": text}, coded, {"text": coded}):
        assert asked(service, instances(instance)) == (200, plain)
    for wrong, reason in (
        ({"title": text}, "its fields are `title`"),
        ({"text": text, "lang": "en"}, "have no meaning: `lang`"),
        ([text, text], "An instance is a list of inputs"),
        (5, "A text is a JSON number"),
        (None, "A text is a JSON null"),
        ({"text": {"b64": "/w=="}}, "UTF-8"),
    ):
        status, said = asked(service, instances(wrong))
        assert status == 400 and reason in said["error"], said


def test_tensors_are_rows_by_name(tiny_tensors, asked):
    service = Service(Model(tiny_tensors))
    random = np.random.default_rng(0)
    rows = [
        {
            "values": random.normal(size=(6, time)).round(3).tolist(),
            "which": random.integers(0, 10, (1, time)).tolist(),
        }
        for time in (3, 7)
    ]
    status, said = asked(service, instances(*rows))
    assert status == 200 and len(said["predictions"]) == 2
    for row, found in zip(rows, said["predictions"], strict=True):
        _, [expected] = asked(service, {name: [each] for name, each in row.items()}, protocol="")
        assert np.allclose(found["output"], expected["output"], atol=1e-5)


def test_the_only_input_needs_no_name(tiny_array, asked):
    service = Service(Model(tiny_array))
    row = [0.1, -0.2, 0.3, 0.4, 0.5]
    status, said = asked(service, instances(row))
    assert (status, said["predictions"]) == asked(service, [row], protocol="")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "not valid JSON"),
        (b"", 400, "not valid JSON"),
        ([1], 400, "a JSON array, without a list of instances"),
        ({"inputs": [1]}, 400, "object with 'inputs', without"),
        ({"instances": {}}, 400, "without a list"),
        (instances(), 400, "empty"),
        (instances(*[[0] * 5] * (MAX_ROWS + 1)), 413, "at most"),
        (instances({"b64": 1}), 400, "Input 0: The b64 is a JSON number"),
        (instances({"b64": "%"}), 400, "Input 0: The input is not valid base64"),
        (instances(None), 400, "Input 0: The row is a JSON null"),
        (instances({"rows": {"b64": "AAAA"}}), 400, "Input 0: The row is a JSON object"),
        (
            instances(
                {key: {"b64": "AA"} for key in ("height", "width", "depth", "weight", "price")}
            ),
            400,
            "a JSON object",
        ),
        (instances("text"), 400, "Input 0: "),
    ],
)
def test_what_is_no_list_of_instances_is_refused(tiny_table, asked, body, status, reason):
    found, said = asked(Service(Model(tiny_table)), body)
    assert found == status and reason in said["error"], said
