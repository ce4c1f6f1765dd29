"""`shipway models`, on a real server."""

import json


def test_models_are_listed_as_a_table_and_as_json(shipway):
    table = shipway("models").stdout
    assert all(word in table for word in ("echo", "1.0", "●", "1 of 1", "50 ms"))
    [listed] = json.loads(shipway("models", "--json").stdout)
    assert listed["name"] == "echo" and listed["version"] == "1.0" and listed["default"] is True


def test_a_model_that_shipway_did_not_register_is_noted(shipway):
    assert "echo 1.0 was registered without Shipway" in shipway("models").stderr
