import json
from contextlib import closing
from pathlib import Path

import pytest

from shipway.engines.connection import connect
from shipway.engines.errors import NoServer
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.engine import TorchServeEngine
from tests.servers import RunningServer


def test_the_record_of_an_older_release_names_no_engine_and_is_torchserves(
    server: RunningServer,
) -> None:
    fields = json.loads(server.state.record_file.read_text())
    del fields["engine"]
    server.state.record_file.write_text(json.dumps(fields))
    with closing(connect(server.state)) as found:
        assert isinstance(found, TorchServeEngine)


def test_without_a_server_there_is_no_engine(tmp_path: Path) -> None:
    with pytest.raises(NoServer):
        connect(StateDirectory(tmp_path))
