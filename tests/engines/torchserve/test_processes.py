import os
import re
from pathlib import Path

import psutil
import pytest

from shipway.engines.errors import LaunchError
from shipway.engines.torchserve.processes import quote_for_pattern
from tests.engines.torchserve.test_launch import start


def test_a_temporary_folder_whose_name_is_too_long_for_sockets_is_refused(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(LaunchError, match="TMPDIR"):
        start(tmp_path)
    assert list(deep.iterdir()) == []


def test_java_runs_apart_from_the_terminal_and_with_short_socket_paths(server):
    assert os.getsid(server.record.pid) == server.record.pid != os.getsid(0)
    sockets = [path for path in Path(server.record.launch).iterdir() if path.is_socket()]
    assert sockets
    assert psutil.Process(server.record.pid).cwd() == str(server.state.path)


@pytest.mark.parametrize("path", ["/plain/model-store", "/a.b/c++", "/a,b/$HOME", "/(x/[y", "/ä ö"])
def test_a_quoted_path_survives_java_and_matches_only_itself(path):
    # What TorchServe does to it: matcher.appendReplacement, split(","), Pattern.compile.
    quoted = quote_for_pattern(path)
    replaced = re.sub(r"\\(.)", r"\1", quoted)
    assert "$" not in quoted and "," not in quoted
    assert re.fullmatch(replaced, path)
    assert not re.fullmatch(replaced, path.replace(".", "x") + "x")
