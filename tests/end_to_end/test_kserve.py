"""KServe's own Python client, unmodified, against the front of a real server."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.peers import environments
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from tests.servers import REPOSITORY, running_server, until

CLIENT = Path(__file__).with_name("kserve_client.py")
ROWS = [[0.1, 0.2, 0.3, 0.4, 0.5], [1.0, 0.0, 0.5, 1.0, 2.0]]


@pytest.fixture(scope="module")
def python() -> Path:
    return environments.made("kserve", REPOSITORY / "requirements/kserve.lock") / "python"


@pytest.mark.long
def test_kserves_client_infers_by_its_three_protocols(
    python: Path, tiny_table: Artifact, tmp_path: Path
):
    (tmp_path / "model_store").mkdir()
    mar = pack(tiny_table, tmp_path / "model_store")
    model = tiny_table.manifest.name
    [tensor] = tiny_table.manifest.inputs
    with running_server(tmp_path, front="on") as server:
        server.management.register(
            mar.name, name=model, version="1.0", batch_size=4, max_batch_delay_ms=0, workers=1
        )
        addresses, token = server.record.addresses, server.tokens.get("inference")
        until(lambda: server.inference.predict(model, json.dumps(ROWS[0]).encode()) is not None)
        values = [value for row in ROWS for value in row]
        asked = {
            "instances": ROWS,
            "tensors": {tensor.name: {"shape": [2, 5], "datatype": "FP32", "data": values}},
        }
        done = subprocess.run(
            [python, CLIENT, addresses.inference, addresses.grpc_inference, model, str(token)],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(done.stdout)
        expected = server.inference.predict(
            model, json.dumps(ROWS).encode(), content_type="application/json"
        )
    outputs = found["v2"]
    assert found["grpc"] == outputs and list(outputs) == [
        output.name for output in tiny_table.manifest.outputs
    ]
    assert found["v1"] == {"predictions": expected}
    told = {name: value for name, value in found.items() if name.endswith(("live", "ready"))}
    assert len(told) == 8 and all(value is True for value in told.values()), told
