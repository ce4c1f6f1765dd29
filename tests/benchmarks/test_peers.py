"""The comparison with other servers, without their environments: fakes that really run."""

import re
import sys
from contextlib import contextmanager

import psutil
import pytest
from rich.console import Console

from benchmarks.peers import environments, process, table
from benchmarks.peers.__main__ import outcomes
from benchmarks.peers.systems import BYTES, OURS, SYSTEMS, System, first_of_list, in_both
from benchmarks.peers.turns import Turns
from shipway.engines.ports import free_ports

GOOD = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        reply = json.dumps([{"class_id": int(body)}]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)
    def log_message(self, *_):
        pass
ThreadingHTTPServer.request_queue_size = 64
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
WRONG = GOOD.replace("int(body)", "int(body) + 1")
BROKEN = "raise SystemExit('no module of that name')"
PHOTOS = [b"281", b"504"]


def fake(key: str, code: str, started: list[int]) -> System:
    """A server of `code`, which finds its port in its arguments; its process goes to `started`."""

    @contextmanager
    def start(turn):
        [port] = free_ports(1)
        command = [sys.executable, "-c", code, str(port)]
        with process.running(command, f"http://127.0.0.1:{port}/", turn.folder, {}) as served:
            started.append(served.process)
            yield served

    wire = in_both(BYTES, bytes, first_of_list)
    return System(name=key.title(), key=key, version=lambda: "1.0", start=start, wire=wire)


@pytest.fixture
def turns(tmp_path):
    return Turns(
        artifact=None,
        photos=PHOTOS,
        expected=[281, 504],
        folder=tmp_path,
        seconds=0.3,
        warm_up_s=0.1,
        console=Console(quiet=True),
    )


@pytest.mark.parametrize("system", SYSTEMS[1:], ids=lambda system: system.key)
def test_every_package_of_every_peer_is_pinned_with_its_hashes(system):
    name = system.environment or system.key
    text = environments.requirements(name).read_text()
    pins = re.findall(r"^(\S.*)", re.sub(r"^\s*#.*\n", "", text, flags=re.M), flags=re.M)
    assert pins and all(re.fullmatch(r"[\w.\[\]-]+==[\w.]+ \\", each) for each in pins)
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text
    assert system.version() in text
    assert environments.pinned_version(name, "torch") == "2.13.0"


def test_a_server_that_fails_has_a_row_that_says_why_and_others_have_theirs(turns):
    started = []
    systems = [
        fake(OURS.key, GOOD, started),
        fake("wrong", WRONG, started),
        fake("broken", BROKEN, started),
    ]
    ours, wrong, broken = turns.compare("as_documented", systems, rounds=2)

    assert ours["requests_a_second"]["median"] > 0
    assert ours["ratio_to_ours"] == {"median": 1, "least": 1, "most": 1}
    assert ours["errors"] == 0 and ours["memory_mb"] > 1
    assert "classes [282, 505], the artifact [281, 504]" in wrong["failed"]
    assert "ended before it was ready" in broken["failed"]
    assert "no module of that name" in broken["failed"]
    assert len(started) == 4  # those that failed are not tried a second time
    assert not any(psutil.pid_exists(each) for each in started)

    lines = table.markdown([wrong, ours, broken]).splitlines()
    assert len({line.count(" |") for line in lines}) == 1
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| Ours", "| Wrong", "| Broken"]


def test_a_server_may_choose_the_better_setting_for_each_number_of_clients(turns):
    [row] = turns.compare("same_program", [fake(OURS.key, GOOD, [])], rounds=1)
    assert "failed" not in row, row
    assert set(row["workers_x_threads"]) == {table.ONE, table.MANY}


def test_an_environment_that_cannot_be_made_says_what_uv_said(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "odd.txt").write_text("no-hash-is-given==1.0\n")
    with pytest.raises(environments.PeerFailed, match="not installed: .*hash"):
        environments.made("odd")
    with pytest.raises(environments.PeerFailed):  # a half-made one is not taken for whole
        environments.made("odd")


def test_the_target_is_to_be_no_slower_than_the_fastest_peer():
    rows = [
        {"system": OURS.name, "ratio_to_ours": {"median": 1.0}},
        {"system": "FastAPI", "ratio_to_ours": {"median": 0.94}},
        {"system": "Fast", "ratio_to_ours": {"median": 1.25}},
        {"system": "Broken", "failed": "it did not start"},
    ]
    found = outcomes({"same_program": rows, "as_documented": rows[:2]})
    assert found["same_program_vs_fastest_peer"].reached == 0.8
    assert [outcome.met for outcome in found.values()] == [False, True]
    assert not outcomes({"same_program": [rows[0], rows[3]]})["same_program_vs_fastest_peer"].met
