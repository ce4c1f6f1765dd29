from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.drain import until_quiet
from tests.servers import RunningServer


def test_a_server_that_nobody_asks_is_quiet(server: RunningServer) -> None:
    server.inference.predict("echo", b"hello")
    assert until_quiet(server.state, within_s=30.0)


def test_where_no_server_runs_there_is_nothing_to_wait_for(tmp_path) -> None:
    assert until_quiet(StateDirectory(tmp_path), within_s=0.0)
