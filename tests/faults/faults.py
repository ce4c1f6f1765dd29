"""What may go wrong with a served model, and what is promised then.

Each fault is declared once, in FAULTS. The tests and `make test-faults` do them to a real server
under load, and hold what they measure against the promise.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import grpc
import httpx
import psutil

from shipway.engines.errors import Refused
from shipway.engines.torchserve import protos
from shipway.engines.torchserve.tokens import bearer, tokens_of
from shipway.releases.history import read_releases
from tests.faults.cuts import Slow, torn
from tests.faults.measure import (
    BACK_WITHIN_S,
    CLIENTS,
    CLIENTS_BESIDE,
    CUT,
    Fault,
    NotAsPromised,
    Seen,
)
from tests.faults.sites import (
    BATCH,
    HURT,
    METRICS,
    NEIGHBOUR,
    RESPONSE_TIMEOUT_S,
    ROW,
    STATE,
    STORE,
    TEMPORARY,
    Site,
    row_that,
)
from tests.servers import until

WORKER_DIED = frozenset({"500", "503", "507"})
"""As TorchServe answers what a worker had in hand when it ended; 507 if it was killed."""
NEXT_VERSION = f"{NEIGHBOUR}-2.0"

TIMES = 10
"""How often a program is made to fail, or a client is cut off."""
SLOW_CLIENTS = 100
DRIPS = 20
DRIP_S = 0.1
MANY_ROWS = [ROW] * 500
"""Their answers, and they, are more than what the kernel keeps for a reader."""
CUT_AFTER_BYTES = 10_000
NOTICED_WITHIN_S = 60.0
SERVER_BACK_WITHIN_S = 45.0
DYING = 2
"""Requests that each client may lose with the server: the one under way, and the one it sends to
the socket of a process that is killed and not yet gone (the kernel accepts it, and then resets)."""


def kill_a_worker(site: Site) -> Seen:
    pid = site.workers()[0]
    since = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return Seen(since=since, gone=frozenset({pid}))


def freeze_a_worker(site: Site) -> Seen:
    pid = site.workers()[0]
    since = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    return Seen(since=since, gone=site.await_end_of_one((pid,), NOTICED_WITHIN_S))


def fail_in_the_program(site: Site, does: str, status: int) -> Seen:
    """A program that fails on one row, and is asked for it again and again."""
    workers = site.workers()
    for _ in range(TIMES):
        check(_refusal(site, row_that(does)).code == status, f"it was not answered {status}")
    check(site.workers() == workers, "a worker was started again")
    return Seen()


def end_in_the_program(site: Site, does: str) -> Seen:
    """A program that ends its worker on one row, or does not come back from it."""
    workers = site.workers()
    since = time.monotonic()
    code = _refusal(site, row_that(does)).code
    check(str(code) in WORKER_DIED, f"it was answered {code}")
    return Seen(since=since, gone=site.await_end_of_one(workers, NOTICED_WITHIN_S))


def corrupt_what_was_registered(site: Site) -> Seen:
    pid, other = site.workers()
    program = next(Path(psutil.Process(pid).cwd(), "artifact", "programs").iterdir())
    whole = program.read_bytes()
    log_start = site.state.worker_log.stat().st_size
    program.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.kill(pid, signal.SIGKILL)

    def refused() -> bool:
        with site.state.worker_log.open("rb") as log:
            log.seek(log_start)
            return b"has changed since the archive was packaged" in log.read()

    until(refused, NOTICED_WITHIN_S)
    check(bool(site.ask(ROW)), "the other worker does not answer")
    check(psutil.pid_exists(other), "the other worker ended")
    program.write_bytes(whole)
    return Seen(gone=frozenset({pid}))


def kill_the_server(site: Site) -> Seen:
    before = _served(site)
    since = time.monotonic()
    os.kill(site.record.pid, signal.SIGKILL)
    _serve_again(site)
    check(_served(site) == before, f"{_served(site)} is served now, {before} was before")
    return Seen(since=since)


def kill_the_server_while_it_promotes(site: Site) -> Seen:
    before, noted = _served(site), read_releases(site.state)
    promotion = _promote_until_it_is_under_way(site)
    since = time.monotonic()
    os.kill(site.record.pid, signal.SIGKILL)
    told(promotion.wait(NOTICED_WITHIN_S), promotion.communicate()[1], "does not answer")
    _serve_again(site)
    check(_served(site) == before, f"{_served(site)} is served now, {before} was before")
    check(read_releases(site.state) == noted, "another release is noted than before")
    return Seen(since=since)


def kill_a_promotion(site: Site) -> Seen:
    promotion = _promote_until_it_is_under_way(site)
    promotion.kill()
    promotion.communicate()
    defaults = [one.version for one in site.models() if one.name == NEIGHBOUR and one.default]
    check(defaults == ["1.0"], f"the default is {defaults}")
    for words in (
        ("promote", NEIGHBOUR, "2.0"),
        ("rollback", NEIGHBOUR),
        ("unregister", NEIGHBOUR, "2.0"),
    ):
        done = site.shipway(*words)
        check(done.returncode == 0, f"shipway {words[0]}: {done.stderr}")
    return Seen()


def fill_the_store(site: Site) -> Seen:
    with site.disk(STORE).full():
        done = site.shipway("register", site.mars[NEXT_VERSION])
        told(done.returncode, done.stderr, "No space left")
    stored = sorted(path.name for path in (site.folder / STORE).iterdir())
    check(stored == [f"{HURT}-1.0.mar", f"{NEIGHBOUR}-1.0.mar"], f"the store has {stored}")
    _register_and_unregister(site)
    return Seen()


def fill_temporary_files(site: Site) -> Seen:
    disk = site.disk(TEMPORARY)
    with disk.full():
        done = site.shipway("register", site.mars[NEXT_VERSION])
        told(done.returncode, done.stderr, "free space in its temporary folder")
        gone = replace_a_worker(site)
    left = [path.name for path in disk.folder.rglob("*.download")]
    check(not left, f"{left} is left of what did not fit")
    _register_and_unregister(site)
    return Seen(gone=gone)


def fill_the_state(site: Site) -> Seen:
    with site.disk(STATE).full():
        gone = replace_a_worker(site)
        done = site.shipway("register", site.mars[NEXT_VERSION])
        told(done.returncode, done.stderr, "No space left")
    _register_and_unregister(site)
    return Seen(gone=gone)


def fill_shared_memory(site: Site) -> Seen:
    """Where workers keep their metrics."""
    with site.disk(METRICS).full():
        gone = replace_a_worker(site)
    # The worker that started meanwhile counts nothing; another one takes its place.
    return Seen(gone=gone | replace_a_worker(site))


def cut_clients(site: Site, send: Callable[[Site, str, bytes], None], address: str) -> Seen:
    """In the middle of what they send, then of what they get."""
    server = site.listener
    open_files, workers = server.num_fds(), site.workers(NEIGHBOUR)
    body = repr(MANY_ROWS).encode()
    for where in ({"up": CUT_AFTER_BYTES}, {"down": CUT_AFTER_BYTES}):
        with torn(address, **where) as way:
            for _ in range(TIMES):
                send(site, way, body)
    until(lambda: server.num_fds() <= open_files + 2, NOTICED_WITHIN_S)
    check(site.workers(NEIGHBOUR) == workers, "a worker was started again")
    return Seen()


def cut_http_clients(site: Site) -> Seen:
    return cut_clients(site, _post, site.record.addresses.inference.removeprefix("http://"))


def cut_grpc_clients(site: Site) -> Seen:
    return cut_clients(site, _call, site.record.addresses.grpc_inference)


def drip_requests(site: Site) -> Seen:
    """Clients that send a few bytes now and then, and some that never send the last ones."""
    address = site.record.addresses.inference.removeprefix("http://")
    headers = {"host": address, "content-type": "application/json"} | _token(site)
    body = repr(ROW).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST /predictions/{HURT} HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n"
    whole = request.encode() + body
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(Slow(address, whole))) for _ in range(SLOW_CLIENTS)]
        for _ in range(DRIPS):
            for each in clients:
                each.send(len(whole) // (DRIPS + 1))
            time.sleep(DRIP_S)
        statuses = {each.finish().split()[1] for each in clients[::2]}
    check(statuses == {b"200"}, f"those who sent all got {statuses}")
    return Seen()


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotAsPromised(otherwise)


def told(code: int, said: str, why: str) -> None:
    """A command failed as one should: with exit code 1 and a sentence that says why."""
    check(code == 1 and why in said and "Traceback" not in said, f"exit code {code}: {said}")


def _refusal(site: Site, row: list[float]) -> Refused:
    try:
        found = site.ask(row)
    except Refused as refusal:
        return refusal
    raise NotAsPromised(f"it was answered with {found}")


def _served(site: Site) -> list[tuple[object, ...]]:
    return sorted(
        (one.name, one.version, one.default, one.workers, one.batch_size) for one in site.models()
    )


def _serve_again(site: Site) -> None:
    served = site.serve()
    check(served.returncode == 0, f"shipway serve: {served.stderr}")


def _promote_until_it_is_under_way(site: Site):
    """A promotion of NEXT_VERSION whose workers are starting."""
    shutil.copy(site.mars[NEXT_VERSION], site.folder / STORE)
    promotion = site.begin("promote", NEIGHBOUR, "2.0")
    until(lambda: any(one.version == "2.0" for one in site.models()), NOTICED_WITHIN_S)
    return promotion


def _register_and_unregister(site: Site) -> None:
    """What was refused for lack of room goes through when there is room, without another step."""
    for words in (("register", site.mars[NEXT_VERSION]), ("unregister", NEIGHBOUR, "2.0")):
        done = site.shipway(*words)
        check(done.returncode == 0, f"shipway {words[0]}: {done.stderr}")
    (site.folder / STORE / site.mars[NEXT_VERSION].name).unlink()


def replace_a_worker(site: Site) -> frozenset[int]:
    """Kills one and waits for another in its place."""
    gone = kill_a_worker(site).gone
    with suppress(AssertionError):
        until(lambda: site.is_whole(without=gone), NOTICED_WITHIN_S)
        return gone
    raise NotAsPromised("no worker took the place of one that was killed")


def _token(site: Site) -> dict[str, str]:
    return bearer(tokens_of(site.state, site.record).get("inference"))


def _post(site: Site, address: str, body: bytes) -> None:
    headers = {"content-type": "application/json"} | _token(site)
    with suppress(httpx.TransportError):
        answer = httpx.post(
            f"http://{address}/predictions/{NEIGHBOUR}",
            content=body,
            headers=headers,
            trust_env=False,
        )
        raise NotAsPromised(f"the client was not cut off, but got {answer}")


def _call(site: Site, address: str, body: bytes) -> None:
    stubs = protos.load()
    request = stubs.inference_pb2.PredictionsRequest(model_name=NEIGHBOUR, input={"body": body})
    with (
        suppress(grpc.RpcError),
        grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel,
    ):
        service = stubs.inference_pb2_grpc.InferenceAPIsServiceStub(channel)
        service.Predictions(request, metadata=tuple(_token(site).items()), timeout=10)
        raise NotAsPromised("the client was not cut off")


FAULTS = (
    Fault(
        name="a worker is killed",
        promise="The batch it had in hand fails with a 5xx. The model's other worker goes on.",
        inject=kill_a_worker,
        lost_at_most=BATCH,
        lost_as=WORKER_DIED,
    ),
    Fault(
        name="a worker is frozen",
        promise="The batch it had in hand fails with a 5xx after the response timeout, when the "
        "worker is replaced. The other worker goes on.",
        inject=freeze_a_worker,
        lost_at_most=BATCH,
        lost_as=WORKER_DIED,
        back_within_s=RESPONSE_TIMEOUT_S + BACK_WITHIN_S,
    ),
    Fault(
        name="a program raises",
        promise="That request is answered 500, everybody else in its batch as ever.",
        inject=partial(fail_in_the_program, does="raises", status=500),
    ),
    Fault(
        name="a program runs out of memory",
        promise="That request is answered 507, everybody else in its batch as ever.",
        inject=partial(fail_in_the_program, does="eats", status=507),
    ),
    Fault(
        name="a program returns too few rows",
        promise="That request is answered 500, everybody else in its batch as ever.",
        inject=partial(fail_in_the_program, does="drops", status=500),
    ),
    Fault(
        name="a program returns too many rows",
        promise="That request is answered 500, everybody else in its batch as ever.",
        inject=partial(fail_in_the_program, does="adds", status=500),
    ),
    Fault(
        name="a program hangs",
        promise="Its batch fails with a 5xx after the response timeout, when the worker is "
        "replaced. The other worker goes on.",
        inject=partial(end_in_the_program, does="hangs"),
        lost_at_most=BATCH - 1,
        lost_as=WORKER_DIED,
        back_within_s=RESPONSE_TIMEOUT_S + BACK_WITHIN_S,
    ),
    Fault(
        name="a program crashes",
        promise="Its batch fails with a 5xx. The other worker goes on.",
        inject=partial(end_in_the_program, does="crashes"),
        lost_at_most=BATCH - 1,
        lost_as=WORKER_DIED,
    ),
    Fault(
        name="a program exits",
        promise="Its batch fails with a 5xx. The other worker goes on.",
        inject=partial(end_in_the_program, does="exits"),
        lost_at_most=BATCH - 1,
        lost_as=WORKER_DIED,
    ),
    Fault(
        name="a program file is damaged",
        promise="A worker that starts refuses it; those that run go on. Once it is whole again, "
        "workers start by themselves.",
        inject=corrupt_what_was_registered,
        lost_at_most=BATCH,
        lost_as=WORKER_DIED,
        back_within_s=20.0,
    ),
    Fault(
        name="HTTP clients are cut off",
        promise="Nobody else notices, no worker ends, and no connection stays open.",
        inject=cut_http_clients,
    ),
    Fault(
        name="gRPC clients are cut off",
        promise="Nobody else notices, no worker ends, and no connection stays open.",
        inject=cut_grpc_clients,
    ),
    Fault(
        name="clients send slowly",
        promise="Nobody waits for a hundred of them, and those who send all are answered.",
        inject=drip_requests,
        waits_at_most_s=2.0,
    ),
    Fault(
        name="the store's disk is full",
        promise="A registration is refused and leaves nothing; with room it goes through.",
        inject=fill_the_store,
        fills_a_disk=True,
    ),
    Fault(
        name="the temporary files' disk is full",
        promise="A registration is refused and leaves nothing; with room it goes through. "
        "Workers start meanwhile.",
        inject=fill_temporary_files,
        lost_at_most=BATCH,
        lost_as=WORKER_DIED,
        fills_a_disk=True,
    ),
    Fault(
        name="the state's disk is full",
        promise="A change is refused, with room it goes through. Workers start meanwhile.",
        inject=fill_the_state,
        lost_at_most=BATCH,
        lost_as=WORKER_DIED,
        fills_a_disk=True,
    ),
    Fault(
        name="the metrics' memory is full",
        promise="Workers go on; one that starts meanwhile serves and counts nothing.",
        inject=fill_shared_memory,
        lost_at_most=2 * BATCH,
        lost_as=WORKER_DIED,
        fills_a_disk=True,
    ),
    Fault(
        name="TorchServe is killed",
        promise="What was under way or came as it died is lost. `shipway serve` brings back the "
        "same versions, defaults and settings.",
        inject=kill_the_server,
        lost_at_most=DYING * (CLIENTS + CLIENTS_BESIDE),
        lost_as=frozenset({CUT}),
        ends_the_server=True,
        back_within_s=SERVER_BACK_WITHIN_S,
        waits_at_most_s=SERVER_BACK_WITHIN_S,  # for whoever asks before its workers are there
    ),
    Fault(
        name="TorchServe is killed during a promotion",
        promise="The promotion fails and says so. `shipway serve` brings back what was served "
        "before it.",
        inject=kill_the_server_while_it_promotes,
        lost_at_most=DYING * (CLIENTS + CLIENTS_BESIDE),
        lost_as=frozenset({CUT}),
        ends_the_server=True,
        back_within_s=SERVER_BACK_WITHIN_S,
        waits_at_most_s=SERVER_BACK_WITHIN_S,  # for whoever asks before its workers are there
    ),
    Fault(
        name="a promotion is killed",
        promise="The default stays what it was, and the promotion can be repeated at once.",
        inject=kill_a_promotion,
    ),
)
