"""Entities, compared with those of transformers' own pipeline."""

import json
import string

import jsonschema
import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import (
    BertForTokenClassification,
    PreTrainedTokenizerFast,
    TokenClassificationPipeline,
)

from shipway.artifact.bundle import open_artifact
from shipway.export.new import new_recipe
from shipway.export.new_from import recipe_from
from shipway.export.pipeline import export
from shipway.payloads.request import Request
from shipway.runtime.model import Model
from shipway.serving.service import Service
from shipway.tasks.token_classification import TokenClassification, entities
from tests.conftest import Silent
from tests.export.test_new_from import bert

LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
TEXTS = [
    "Ada Lovelace met Mary in London.",
    "e\u0301a \U0001f600 b\u0308c d",
    "x",
    string.ascii_letters[:50],
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    """A network with random weights, exported, and the same in transformers."""
    folder = tmp_path_factory.mktemp("tokens")
    model = bert(
        folder / "hf",
        BertForTokenClassification,
        num_labels=5,
        id2label=LABELS,
        initializer_range=1.0,  # so that labels differ from token to token
    )
    path = new_recipe("tags", folder, recipe_from("hf", str(folder / "hf"), "tags"))
    exported = export(str(path), Silent(), out=folder, only=("onnx_fp32",))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(folder / "hf" / "tokenizer.json")),
        unk_token="[UNK]",
        pad_token="[PAD]",
    )
    pipeline = TokenClassificationPipeline(
        model=model, tokenizer=tokenizer, aggregation_strategy="simple"
    )
    return Service(Model(open_artifact(exported.path))), pipeline


def test_entities_are_those_of_transformers(served):
    service, pipeline = served
    body = json.dumps(TEXTS).encode()
    [reply] = service.answer([Request({"body": body}, {"content-type": "application/json"})])
    assert reply.status == 200, reply.body
    answers = json.loads(reply.body)
    assert sum(len(each["entities"]) for each in answers) > 10
    for text, answer in zip(TEXTS, answers, strict=True):
        expected = pipeline(text)
        found = answer["entities"]
        assert [(each["label"], each["start"], each["end"]) for each in found] == [
            (each["entity_group"], each["start"], each["end"]) for each in expected
        ]
        scores = [each["score"] for each in expected]
        assert np.allclose([each["score"] for each in found], scores, atol=1e-4)
        for each in found:
            assert each["text"] == text[each["start"] : each["end"]]
    _, schema = TokenClassification.native_schema(service.model.manifest)
    jsonschema.validate(answers, schema)


def test_texts_of_one_batch_do_not_change_each_other(served):
    service, _ = served
    alone, together = (
        [json.loads(reply.body) for reply in replies]
        for replies in (
            [service.answer([Request({"body": each.encode()})])[0] for each in TEXTS],
            service.answer([Request({"body": each.encode()}) for each in TEXTS]),
        )
    )
    for one, other in zip(alone, together, strict=True):
        places = [[(e["start"], e["end"], e["label"]) for e in x["entities"]] for x in (one, other)]
        assert places[0] == places[1] and one["tokens"] == other["tokens"]


def test_what_is_for_the_task_alone_reaches_no_v2_client(served):
    service, _ = served
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXTS[0]]}]
    [reply] = service.answer(
        [Request({"body": json.dumps({"inputs": inputs}).encode()}, {}, "", "v2")]
    )
    assert reply.status == 200
    parameters = json.loads(reply.body).get("parameters", {})
    assert set(parameters) == {"tokens", "truncated"}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("O B-X I-X O", [("X", 2, 6)]),
        ("B-X B-X I-X B-Y", [("X", 0, 2), ("X", 2, 6), ("Y", 6, 8)]),
        ("I-X I-X I-Y O", [("X", 0, 4), ("Y", 4, 6)]),  # some models begin so
        ("X X Y X", [("X", 0, 4), ("Y", 4, 6), ("X", 6, 8)]),  # without the scheme
        ("O O O O", []),
    ],
)
def test_the_scheme_tells_where_an_entity_ends(labels, expected):
    names = sorted(set(labels.split()))
    logits_TK = np.zeros((6, len(names)))
    for token, label in enumerate(labels.split(), 1):
        logits_TK[token, names.index(label)] = 9.0
    spans = [None, (0, 2), (2, 4), (4, 6), (6, 8), None]
    found = entities("abcdefgh", spans, logits_TK, names)
    assert [(each["label"], each["start"], each["end"]) for each in found] == expected
    assert all(each["score"] > 0.99 for each in found)
