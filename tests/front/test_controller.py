"""What the controller notices: tokens, defaults, workers that hang, an Envoy that ends."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from shipway.engines.torchserve import template as torchserve_template
from shipway.front import controller
from shipway.front.controller import Settings, Watch, settings_file
from shipway.front.exchange import Served
from shipway.front.registered import Registered
from shipway.serving.progress import ProgressFile
from shipway.supervision import LOG_BYTES
from tests.front.workers import announced
from tests.servers import until


@pytest.fixture
def settings(tmp_path):
    return Settings(
        envoy="/bin/false",
        folder=str(tmp_path),
        workers=str(tmp_path),
        host="127.0.0.1",
        port=1,
        grpc_host="127.0.0.1",
        grpc_port=4,
        torchserve="127.0.0.1:2",
        torchserve_grpc="127.0.0.1:5",
        management="127.0.0.1:3",
        key_file=str(tmp_path / "key_file.json"),
        max_body_bytes=20 * 2**20,
        keys_file=str(tmp_path / "keys.json"),
        with_tokens=True,
        answer_within_s=60.0,
        log=str(tmp_path / "log"),
        pid=os.getpid(),
        deaths=str(tmp_path / "deaths"),
        stopping_file=str(tmp_path / "stopping"),
    )


def test_settings_come_back_from_their_file(settings):
    path = settings_file(settings)
    assert Settings(**json.loads(path.read_text())) == settings


def test_a_worker_without_progress_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(controller, "CONFIRMED_AFTER_S", 0.1)
    watch = Watch()
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    socket = str(tmp_path / f"{sleeping.pid}.sock")
    worker = announced(pid=sleeping.pid, socket=socket, answer_within_s=0.2)
    watch.look([worker])
    progress = ProgressFile(tmp_path / f"{sleeping.pid}.progress")
    watch.look([worker])
    progress.begin()
    time.sleep(0.3)
    progress.beat()
    watch.look([worker])
    assert sleeping.poll() is None  # not before it is seen twice
    progress.end()
    watch.look([worker])
    progress.begin()
    time.sleep(0.3)
    watch.look([worker])
    time.sleep(0.15)
    watch.look([worker])
    assert sleeping.wait(5) == -signal.SIGKILL


def test_a_worker_that_hangs_says_where_it_is_before_it_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(controller, "CONFIRMED_AFTER_S", 0.5)
    code = (
        "import faulthandler; from shipway.serving.progress import DUMP_SIGNAL\n"
        "faulthandler.register(DUMP_SIGNAL, file=2)\n"
        "def decode_for_ever():\n"
        "    print('on', flush=True)\n"
        "    while True: pass\n"
        "decode_for_ever()"
    )
    with (tmp_path / "log").open("wb") as log:
        hanging = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=log)
    assert hanging.stdout.readline() == b"on\n"
    hanging.stdout.close()
    socket = str(tmp_path / f"{hanging.pid}.sock")
    worker = announced(pid=hanging.pid, socket=socket, answer_within_s=0.1, dumps=True)
    ProgressFile(tmp_path / f"{hanging.pid}.progress").begin()
    time.sleep(0.2)
    watch = Watch()
    while hanging.poll() is None:
        watch.look([worker])
        time.sleep(0.02)
    assert (tmp_path / "log").read_text().count("in decode_for_ever") == 1


def test_what_is_served_is_said_with_its_defaults():
    worker = announced()
    registered = Registered(workers=(worker,), defaults={"cats": "1.0", "old": "1"})
    assert controller.served_by(registered) == Served(
        defaults={"cats": "1.0", "old": "1"}, versions=frozenset([("cats", "1.0")])
    )


def test_a_version_that_goes_out_of_service_and_comes_back_is_told(capsys):
    well, failing = Registered(), Registered(failing=frozenset([("cats", "1.0")]))
    controller.say_failing(well, failing)
    controller.say_failing(failing, failing)
    controller.say_failing(failing, well)
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "cats 1.0 is out of service",
        "cats 1.0 is in service again",
    ]


@pytest.fixture
def kept(settings, tmp_path):
    """The keeper, as it is started, with a process that stands for TorchServe."""
    template = (
        f"import sys; sys.path.insert(0, {str(Path(torchserve_template.__file__).parent)!r})\n"
        "import template; template.IMPORTED = (); template.main()"
    )
    with subprocess.Popen(["sleep", "60"]) as server:
        settings = replace(
            settings,
            with_tokens=False,
            pid=server.pid,
            template=[sys.executable, "-c", template, str(tmp_path / "template.sock")],
        )
        with (tmp_path / "log").open("ab") as log:
            keeper = subprocess.Popen(
                [sys.executable, "-m", controller.MODULE, str(settings_file(settings))],
                stdout=log,
                stderr=log,
            )
        until(lambda: (tmp_path / "template.sock").exists())
        yield psutil.Process(keeper.pid)
        server.kill()
        server.wait()
        keeper.wait(10)
        until(lambda: not family(tmp_path))


def family(folder: Path) -> list[psutil.Process]:
    """The keepers, controllers and templates of a folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if str(folder) in " ".join(process.info["cmdline"] or ())
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def templates_of(folder: Path) -> list[psutil.Process]:
    """One, or none while it is replaced."""
    return [each for each in family(folder) if "template.main()" in " ".join(each.cmdline())]


def says(folder: Path, words: str) -> bool:
    return words in (folder / "log").read_text()


def test_a_keeper_that_is_killed_is_replaced_and_the_new_one_keeps(kept, tmp_path):
    [first] = kept.children()
    kept.kill()
    until(lambda: any(controller.MODULE in each.cmdline() for each in first.children()))
    [second] = [each for each in first.children() if controller.MODULE in each.cmdline()]
    assert first.is_running()
    first.kill()
    until(lambda: len(second.children()) == 1)
    assert says(tmp_path, "front: has ended; another starts")
    until(lambda: [each.parent() for each in templates_of(tmp_path)] == second.children())


def test_a_controller_that_is_killed_is_replaced(kept, tmp_path):
    [first] = kept.children()
    first.kill()
    until(lambda: says(tmp_path, "front: ended with status -9; another starts"))
    until(lambda: [each for each in kept.children() if each != first] != [])


def test_a_template_that_hangs_is_replaced(kept, tmp_path):
    [first] = templates_of(tmp_path)
    time.sleep(1.5)  # it was asked, and answered
    first.suspend()
    until(lambda: says(tmp_path, "template: does not answer; restarting it"))
    until(lambda: templates_of(tmp_path) not in ([], [first]))


def test_a_log_that_grows_is_rolled(kept, settings):
    log = Path(settings.log)
    before = b"a line of Envoy\n" * (LOG_BYTES // 16 + 1)
    with log.open("ab") as envoys:
        envoys.write(before)
        envoys.flush()
        until(lambda: log.stat().st_size < 1_000_000)
        envoys.write(b"the next line\n")
    assert before in log.with_name(f"{log.name}.1").read_bytes()
    assert log.read_bytes().endswith(b"the next line\n") and b"\0" not in log.read_bytes()
