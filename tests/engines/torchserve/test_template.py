"""The process that workers are forked from."""

import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from shipway.engines.torchserve import template
from tests.servers import until


def ask(path: Path, request: bytes, streams: list[int] | None = None) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(path))
    streams = [0, 1, 2] if streams is None else streams
    socket.send_fds(connection, [struct.pack("!Q", len(request))], streams)
    if request:
        connection.sendall(request)
    return connection


def order(folder: Path, code: str, output: int, **environment: str) -> tuple[bytes, list[int]]:
    script = folder / "script.py"
    script.write_text(code)
    said = {
        "arguments": [str(script), "an argument"],
        "folder": str(folder),
        "environment": environment,
    }
    return json.dumps(said).encode(), [0, output, output]


def lines(connection: socket.socket) -> list[dict]:
    with connection.makefile() as file:
        return [json.loads(line) for line in file]


def test_a_fork_has_what_it_was_sent_and_nothing_of_the_template(forks, tmp_path):
    code = (
        "import json, os, sys\n"
        "left = [name for name in sys.modules if name.partition('.')[0] == 'shipway']\n"
        "files = os.listdir('/proc/self/fd')\n"
        "said = {'argv': sys.argv, 'path': sys.path[0], 'environment': dict(os.environ)}\n"
        "json.dump(said | {'folder': os.getcwd(), 'left': left, 'files': len(files),\n"
        "  'imported': 'torch' in sys.modules, 'name': __name__}, sys.stdout)\n"
    )
    with (tmp_path / "output").open("w") as output:
        request = order(tmp_path, code, output.fileno(), PYTHONPATH="/first:/second", X="1")
        pid, status = lines(ask(forks, *request))
    assert pid["pid"] and status == {"status": 0}
    said = json.loads((tmp_path / "output").read_text())
    assert said["argv"] == [str(tmp_path / "script.py"), "an argument"]
    assert said["path"] == "/first" and said["folder"] == str(tmp_path)
    assert said["environment"] == {"PYTHONPATH": "/first:/second", "X": "1"}
    assert said["left"] == [] and said["imported"] and said["name"] == "__main__"
    assert said["files"] <= 5  # the standard streams, and those of listing them


def test_forks_have_random_numbers_of_their_own_and_all_cores(forks, tmp_path):
    code = "import torch; print(torch.rand(1).item(), torch.get_num_threads())"
    drawn = []
    for _ in range(3):
        with (tmp_path / "output").open("w") as output:
            lines(ask(forks, *order(tmp_path, code, output.fileno())))
        drawn.append((tmp_path / "output").read_text().split())
    assert len({number for number, _ in drawn}) == 3
    in_a_process_of_its_own = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    threads = in_a_process_of_its_own.stdout.split()[1]
    assert {found for _, found in drawn} == {threads}


def test_how_a_fork_ended_is_told(forks, tmp_path):
    with (tmp_path / "output").open("w") as output:
        request = order(tmp_path, "import os; os.kill(os.getpid(), 9)", output.fileno())
        _, killed = lines(ask(forks, *request))
        request = order(tmp_path, "raise SystemExit(7)", output.fileno())
        _, ended = lines(ask(forks, *request))
        request = order(tmp_path, "raise ValueError('told in its output')", output.fileno())
        _, failed = lines(ask(forks, *request))
    assert os.WTERMSIG(killed["status"]) == 9
    assert os.waitstatus_to_exitcode(ended["status"]) == 7
    assert os.waitstatus_to_exitcode(failed["status"]) == 1
    assert "told in its output" in (tmp_path / "output").read_text()


def test_a_fork_ends_with_whoever_asked_for_it(forks, tmp_path):
    with (tmp_path / "output").open("w") as output:
        request = order(tmp_path, "import time; time.sleep(100)", output.fileno())
        connection = ask(forks, *request)
        pid = json.loads(connection.recv(100))["pid"]
        assert psutil.pid_exists(pid)
        connection.close()
        until(lambda: not psutil.pid_exists(pid))


@pytest.mark.parametrize(
    ("request_", "streams"),
    [(b"{}", None), (b"not JSON", None), (b"{}", []), (b"", None), (b"[1]", None)],
)
def test_a_request_that_is_none_gets_an_error_and_harms_nobody(forks, tmp_path, request_, streams):
    [said] = lines(ask(forks, request_, streams))
    assert said["error"]
    with (tmp_path / "output").open("w") as output:
        _, ended = lines(ask(forks, *order(tmp_path, "", output.fileno())))
    assert ended == {"status": 0}


def test_a_process_with_several_threads_is_not_forked_and_says_so(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(template.__file__).parent)!r})\n"
        "import template, threading, time\n"
        "template.IMPORTED = ()\n"
        "threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\n"
        "template.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "template.sock"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == os.EX_UNAVAILABLE and "started threads: 2 run" in done.stdout
    reason = (tmp_path / f"template.sock{template.IMPOSSIBLE_SUFFIX}").read_text()
    assert "started threads" in reason
