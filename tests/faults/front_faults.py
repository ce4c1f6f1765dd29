"""What may go wrong with the front, its template and its starters, and what is promised then.

Declared as the others are, in FRONT_FAULTS, and done to a server with front=on.
"""

import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import psutil

from shipway.engines.torchserve.front import WORKERS
from shipway.files import atomic_write
from shipway.front.exchange import FOLDER
from shipway.releases.readiness import ask_why_not_ready
from tests.faults.faults import (
    BATCH,
    DYING,
    NOTICED_WITHIN_S,
    WORKER_DIED,
    check,
    kill_a_worker,
    replace_a_worker,
)
from tests.faults.measure import BACK_WITHIN_S, CLIENTS, CLIENTS_BESIDE, CUT, Fault, Seen
from tests.faults.sites import ENVOY, TEMPORARY, Site
from tests.servers import until

TEMPLATE_BACK_WITHIN_S = 25.0
"""It imports torch and ONNX Runtime, on a machine whose cores are busy."""
HANG_NOTICED_WITHIN_S = 20.0
GARBAGE = '{"resources": [{"@type": '
NOBODY = "/nonexistent/worker.sock"
IN_HAND = DYING * (CLIENTS + CLIENTS_BESIDE)
"""Requests that clients of both models may lose with the front: as with the server."""


def kill_envoy(site: Site) -> Seen:
    said = _log_of(site)
    envoy = site.process(ENVOY)
    envoy.kill()
    seen = Seen()
    said("envoy: ended with status -9")
    return seen


def stop_envoy(site: Site) -> Seen:
    said = _log_of(site)
    site.process(ENVOY).suspend()
    seen = Seen()
    until(lambda: "front.log" in " ".join(ask_why_not_ready(site.state)))
    said("takes no requests")
    return seen


def kill_the_controller(site: Site) -> Seen:
    said = _log_of(site)
    _controller(site).kill()
    seen = Seen()
    said("front: ended")
    return seen


def kill_the_keeper(site: Site) -> Seen:
    """And, when there is another, what it keeps: the other one replaces that."""
    said, controller = _log_of(site), _controller(site)
    keeper = controller.parent()
    assert keeper is not None
    keeper.kill()
    said("another starts")
    until(lambda: any(_is_python(each) for each in controller.children()), NOTICED_WITHIN_S)
    check(controller.is_running(), "what it kept ended, too")
    return Seen()


def take_the_port(site: Site) -> Seen:
    """Whoever takes it answers nobody."""
    said, controller = _log_of(site), _controller(site)
    address = site.record.addresses.inference.removeprefix("http://")
    host, _, port = address.rpartition(":")
    controller.suspend()
    with socket.socket() as thief:
        try:
            site.process(ENVOY).kill()
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            until(lambda: _can_bind(thief, (host, int(port))))
            thief.listen()  # or Envoy could bind it as well
        finally:
            controller.resume()
        said("takes no requests")
        check("front.log" in " ".join(ask_why_not_ready(site.state)), "`shipway ready` is silent")
    return Seen()


def damage_the_files(site: Site) -> Seen:
    """All that Envoy reads, one after the other, and all again."""
    for damage in (_overwrite, _replace, _make_stale, Path.unlink):
        said = _log_of(site)
        whole = {path: path.read_text() for path in sorted(_folder(site).glob("*ds*.json"))}
        for path in whole:
            damage(path)
        said("Somebody has changed")
        until(partial(_are_whole, whole))
    return Seen()


def damage_the_announcements(site: Site) -> Seen:
    for damage in (_overwrite, Path.unlink):
        said = {path: path.read_bytes() for path in _announcements(site)}
        for path in said:
            damage(path)
        until(partial(_are_said, site, said))
    return Seen()


def fill_the_fronts_disk(site: Site) -> Seen:
    with site.disk(TEMPORARY).full():
        seen = kill_envoy(site)
        until(lambda: site.is_whole(), NOTICED_WITHIN_S)
        gone = replace_a_worker(site)
    return Seen(since=seen.since, gone=gone)


def end_the_template(site: Site, number: int, says: str) -> Seen:
    """And a worker, which cannot be replaced without it."""
    said = _log_of(site)
    template = next(each for each in _controller(site).children() if _is_python(each))
    template.send_signal(number)
    seen = kill_a_worker(site)
    said(says)
    return seen


def kill_a_starter(site: Site) -> Seen:
    announced = [json.loads(path.read_bytes()) for path in _announcements(site)]
    worker = next(each for each in announced if each["pid"] in site.workers())
    os.kill(worker["starter"], signal.SIGKILL)
    return Seen(gone=frozenset({worker["pid"]}))


def _folder(site: Site) -> Path:
    return Path(site.record.launch) / FOLDER


def _announcements(site: Site) -> list[Path]:
    return sorted((_folder(site).parent / WORKERS).glob("*.json"))


def _are_whole(texts: Mapping[Path, str]) -> bool:
    return all(path.exists() and path.read_text() == text for path, text in texts.items())


def _are_said(site: Site, said: Mapping[Path, bytes]) -> bool:
    return {path: path.read_bytes() for path in _announcements(site)} == said


def _controller(site: Site) -> psutil.Process:
    """The process that does the front's work: Envoy's parent."""
    found = site.process(ENVOY).parent()
    assert found is not None
    return found


def _is_python(process: psutil.Process) -> bool:
    return process.is_running() and ENVOY not in process.cmdline()


def _log_of(site: Site) -> Callable[[str], None]:
    """Waits until the front's log says something that it did not say before."""
    start = site.state.front_log.stat().st_size

    def said(words: str) -> None:
        def there() -> bool:
            with site.state.front_log.open("rb") as log:
                log.seek(start)
                return words.encode() in log.read()

        try:
            until(there, NOTICED_WITHIN_S)
        except AssertionError:
            check(False, f"the front's log does not say: {words}")

    return said


def _can_bind(thief: socket.socket, address: tuple[str, int]) -> bool:
    try:
        thief.bind(address)
    except OSError:
        return False
    return True


def _overwrite(path: Path) -> None:
    path.write_text(GARBAGE)


def _replace(path: Path) -> None:
    atomic_write(path, GARBAGE)


def _make_stale(path: Path) -> None:
    """With workers that are not there any more."""
    said = path.read_text()
    for pipe in _pipes_in(json.loads(said)):
        said = said.replace(json.dumps(pipe), json.dumps(NOBODY))
    atomic_write(path, said + " ")


def _pipes_in(value: object) -> list[str]:
    if isinstance(value, list):
        return [found for each in value for found in _pipes_in(each)]
    if not isinstance(value, dict):
        return []
    if "pipe" in value:
        return [value["pipe"]["path"]]
    return [found for each in value.values() for found in _pipes_in(each)]


FRONT_FAULTS = (
    Fault(
        name="the front is killed",
        promise="What was under way is lost. Envoy is started again with the same files.",
        inject=kill_envoy,
        lost_at_most=IN_HAND,
        lost_as=frozenset({CUT}),
        ends_the_server=True,
    ),
    Fault(
        name="the front is frozen",
        promise="`/readyz` says so. Envoy is replaced, and what it had in hand is lost.",
        inject=stop_envoy,
        lost_at_most=IN_HAND,
        lost_as=frozenset({CUT}),
        ends_the_server=True,
        back_within_s=HANG_NOTICED_WITHIN_S,
    ),
    Fault(
        name="the front's keeper is killed",
        promise="Nobody notices. Another one takes its place.",
        inject=kill_the_keeper,
    ),
    Fault(
        name="the front's controller is killed",
        promise="What was under way is lost. The keeper starts another one, and that an Envoy and "
        "a template.",
        inject=kill_the_controller,
        lost_at_most=IN_HAND,
        lost_as=frozenset({CUT}),
        ends_the_server=True,
    ),
    Fault(
        name="the front's files are damaged",
        promise="Nobody notices. They are written again at once, and the log says so.",
        inject=damage_the_files,
    ),
    Fault(
        name="the workers' announcements are damaged",
        promise="Nobody notices. Until they are made again, TorchServe answers.",
        inject=damage_the_announcements,
    ),
    Fault(
        name="the front's port is taken",
        promise="`/readyz` says so. What was under way is lost, and nobody is answered until the "
        "port is free.",
        inject=take_the_port,
        lost_at_most=2 * IN_HAND,  # those who reach the thief ask again meanwhile
        lost_as=frozenset({CUT}),
        ends_the_server=True,
        back_within_s=HANG_NOTICED_WITHIN_S,
    ),
    Fault(
        name="the front is killed while its disk is full",
        promise="What was under way is lost. Envoy is started again with the files that are there, "
        "and a worker that is killed meanwhile is replaced.",
        inject=fill_the_fronts_disk,
        lost_at_most=IN_HAND + BATCH,
        lost_as=WORKER_DIED | {CUT},
        ends_the_server=True,
        fills_a_disk=True,
    ),
    Fault(
        name="the template is killed, then a worker",
        promise="The batch that the worker had in hand fails with 503. The other worker goes on, "
        "and there are two again when another template has imported everything.",
        inject=partial(
            end_the_template, number=signal.SIGKILL, says="template: ended with status -9"
        ),
        lost_at_most=BATCH,
        lost_as=WORKER_DIED,
        back_within_s=TEMPLATE_BACK_WITHIN_S,
    ),
    Fault(
        name="the template hangs, then a worker is killed",
        promise="The same, after the template was noticed to hang and was replaced.",
        inject=partial(end_the_template, number=signal.SIGSTOP, says="template: does not answer"),
        lost_at_most=BATCH,
        lost_as=WORKER_DIED,
        back_within_s=TEMPLATE_BACK_WITHIN_S + BACK_WITHIN_S,
    ),
    Fault(
        name="a starter is killed",
        promise="Its worker ends with it, and the batch in hand fails with a 5xx. TorchServe "
        "starts both again.",
        inject=kill_a_starter,
        lost_at_most=BATCH,
        lost_as=WORKER_DIED,
    ),
)
