"""`shipway models`, on a real server."""

import json
import subprocess

from tests.echo import register_echo
from tests.servers import SHIPWAY, running_server


def test_models_are_listed_as_a_table_and_as_json(shipway):
    table = shipway("models").stdout
    assert all(word in table for word in ("echo", "1.0", "●", "1 of 1", "50 ms"))
    [listed] = json.loads(shipway("models", "--json").stdout)
    assert listed["name"] == "echo" and listed["version"] == "1.0" and listed["default"] is True


def test_a_model_that_shipway_did_not_register_is_noted(tmp_path, echo_mars):
    with running_server(tmp_path) as server:
        register_echo(server, echo_mars["1.0"], "1.0")
        models = [*SHIPWAY, "models", "--state", str(server.state.path)]
        said = subprocess.run(models, capture_output=True, text=True, check=True).stderr
    assert "echo 1.0 was registered without Shipway" in said
