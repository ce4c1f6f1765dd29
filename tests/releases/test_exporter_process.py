from pathlib import Path

from shipway.engines.state import StateDirectory
from shipway.releases.exporter_process import MODULE, exporter_command


def test_it_is_started_by_its_module_with_the_state_directory_and_its_address(tmp_path: Path):
    command = exporter_command(StateDirectory(tmp_path), "127.0.0.1", 9404)
    assert command[1:] == ["-m", MODULE, str(tmp_path), "127.0.0.1", "9404"]
    assert Path(command[0]).exists()
