"""How answers are printed: known shapes as tables, all others as JSON."""

import json
import re

import pytest

from shipway.cli.answers import print_answer


def shown(capsys, answer: dict) -> str:
    print_answer({"file": "a [b].txt"} | answer)
    return capsys.readouterr().out


def test_ranked_classes_are_a_table_with_bars(capsys):
    ranked = [
        {"class_id": 3, "label": "cat", "probability": 0.75},
        {"class_id": 1, "label": "dog", "probability": 0.25},
    ]
    first, *rows = shown(capsys, {"predictions": ranked}).splitlines()
    assert first == "a [b].txt"
    assert any("cat" in row and "75.0%" in row and row.count("█") == 15 for row in rows)
    assert any("dog" in row and "25.0%" in row and row.count("█") == 5 for row in rows)


def test_an_embedding_is_shown_by_its_first_numbers(capsys):
    answer = {"embedding": [0.5] * 384, "tokens": 7, "truncated": True}
    said = shown(capsys, {"predictions": answer})
    assert "384 numbers: 0.5000, 0.5000, 0.5000, 0.5000, …" in said
    assert "(7 tokens, truncated to the model's maximum length)" in said


def test_an_embedding_of_an_image_has_no_tokens(capsys):
    said = shown(capsys, {"predictions": {"embedding": [0.5] * 8}})
    assert "8 numbers: 0.5000" in said and "token" not in said


def test_a_mask_is_shown_by_the_shares_of_its_classes(capsys):
    classes = [{"class_id": 2, "label": "sea", "share": 0.75}]
    mask = {"class_ids": [2, 0] * 500, "lengths": [3, 1] * 500}
    answer = {"width": 50, "height": 40, "classes": classes, "mask": mask}
    said = shown(capsys, {"predictions": answer})
    assert "a mask of 50 × 40 pixels" in said and "lengths" not in said
    assert any("sea" in row and "75.0%" in row and row.count("█") == 15 for row in said.split("\n"))


@pytest.mark.parametrize(
    "predictions",
    [
        {"boxes": [[1.0, 2.0, 3.0, 4.0]], "scores": [0.5], "names": ["[red]"]},
        [{"class_id": 1, "label": "no probability"}],
        {"width": 1, "height": 1, "classes": [{"class_id": 1}], "mask": {}},
        [],
        "a text",
        None,
        3.5,
        [[1, 2], [3, 4]],
        {"ü": "日本"},
    ],
    ids=str,
)
def test_any_other_answer_is_readable_json(capsys, predictions):
    said = shown(capsys, {"predictions": predictions})
    assert json.loads(said.removeprefix("a [b].txt\n")) == predictions


def test_a_class_whose_probability_is_no_number_is_json(capsys):
    ranked = [{"class_id": 1, "label": "cat", "probability": None}]
    said = shown(capsys, {"predictions": ranked})
    assert json.loads(said.removeprefix("a [b].txt\n")) == ranked


def test_an_error_is_its_code_its_type_and_its_message(capsys):
    error = {"code": 415, "type": "NotAnImage", "message": "Send [JPEG]."}
    assert "415 NotAnImage: Send [JPEG]." in shown(capsys, {"error": error})


def test_the_stages_of_a_request_add_up_to_its_time(capsys):
    explained = {
        "took_ms": 20.0,
        "stages_ms": {"total": 12.0, "queue": 3.0, "decode": 2.0, "inference": 10.0},
        "program": "onnx_fp32",
        "version": "1.0",
        "artifact": "0123456789abcdef",
        "batch": "2",
    }
    said = shown(capsys, {"predictions": [], "explained": explained})
    rows = {}
    for row in said.splitlines():
        if found := re.match(r" *([a-z ]+?) +([\d.]+) ", row + " "):
            rows[found[1]] = float(found[2])
    parts = {"queue": 3, "network and server": 5, "decode": 2, "inference": 10}
    assert rows == parts | {"total": 20}
    assert sum(parts.values()) == rows["total"]
    assert "in a batch of 2 rows" in said and "0123456789ab…" in said


def test_a_class_with_more_than_the_table_shows_is_json(capsys):
    box = {"class_id": 1, "label": "cat", "probability": 0.9, "box": [0, 0, 10, 20]}
    assert '"box"' in shown(capsys, {"predictions": [box]})
