"""`shipway describe`, on a real server."""

import json

from shipway.engines.errors import ModelNotFound


def test_lists_come_as_json_for_scripts(shipway):
    [listed] = json.loads(shipway("models", "--json").stdout)
    assert listed["name"] == "echo" and listed["default"] is True
    [described] = json.loads(shipway("describe", "echo", "--json").stdout)
    assert described["worker_pids"] == listed["worker_pids"]


def test_a_description_is_a_table_of_facts(shipway):
    printed = shipway("describe", "echo").stdout
    assert all(word in printed for word in ("echo-1.0.mar", "worker processes", "50 ms", "cpu"))


def test_an_unknown_model_is_named_with_those_there_are(shipway):
    error = shipway("describe", "nobody", fails=ModelNotFound).exception
    assert "nobody" in str(error) and "echo" in str(error)
