"""A real Envoy with the files that are written for it, in front of workers on unix sockets."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from shipway.files import atomic_write
from shipway.front.envoy import Requests
from shipway.front.registered import Registered
from shipway.serving.deadlines import FRONT_WITHIN, WITHIN
from tests.front.envoys import ENVOY, envoy, until

__all__ = ["envoy"]  # a fixture
pytestmark = pytest.mark.skipif(ENVOY is None, reason="there is no Envoy for this platform")


def test_each_version_gets_its_own_requests_and_torchserve_the_rest(envoy):
    one, two = envoy.worker("cats", "1.0"), envoy.worker("cats", "2.0")
    with envoy.running(Registered(workers=(one, two), defaults={"cats": "1.0", "old": "1"})):
        for path, worker in {
            "/predictions/cats": "cats/1.0/1",
            "/predictions/cats?top=3": "cats/1.0/1",
            "/predictions/cats/2.0": "cats/2.0/1",
            "/v2/models/cats/infer": "cats/1.0/1",
            "/v2/models/cats": "cats/1.0/1",
            "/v2/models/cats/versions/2.0/infer": "cats/2.0/1",
            "/v2/models/cats/versions/2.0/ready": "cats/2.0/1",
            "/v2/models/cats/versions/3.0/infer": "torchserve",
            "/v1/models/cats": "cats/1.0/1",
            "/v1/models/cats:predict": "cats/1.0/1",
            "/v1/models/dogs:predict": "torchserve",
            "/predictions/cats/3.0": "torchserve",
            "/predictions/catsanddogs": "torchserve",
            "/predictions/old": "torchserve",
            "/predictions/cats/../../ping": "torchserve",
            "/predictions/cats%2f2.0": "torchserve",
            "/ping": "torchserve",
            "/": "torchserve",
        }.items():
            assert envoy.said(path).split()[0] == worker, path


def test_a_server_whose_models_have_no_workers_is_not_healthy(envoy):
    before = Registered(defaults={"cats": "1.0"})
    with envoy.running(before):
        assert envoy.client.get("/ping").is_success
        envoy.files.update(replace(before, idle=True))
        for path in ("/ping", "/v2/health/ready"):
            answer = envoy.client.get(path)
            assert answer.status_code == 503 and "scaled to 0" in answer.json()["message"]
        assert envoy.client.get("/v2/health/live").is_success
        envoy.files.update(before)
        assert envoy.client.get("/ping").is_success


def test_a_token_is_needed_and_torchserve_gets_its_own(envoy):
    cats = envoy.worker("cats", "1.0")
    registered = Registered(
        workers=(cats,),
        defaults={"cats": "1.0"},
        with_tokens=True,
        token="new",
        tokens=("new", "old"),
    )
    with envoy.running(registered):
        for sent in ({}, {"authorization": "Bearer wrong"}, {"authorization": "new"}):
            answer = envoy.client.post("/predictions/cats", headers=sent)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["code"] == 401
            assert answer.json()["type"] == "InvalidKeyException"
        for token in ("new", "old"):
            headers = {"authorization": f"Bearer {token}"}
            assert envoy.client.post("/predictions/cats", headers=headers).is_success
            assert "Bearer new" in envoy.client.get("/ping", headers=headers).text


def test_without_any_token_nobody_is_let_in(envoy):
    cats = envoy.worker("cats", "1.0")
    registered = Registered(workers=(cats,), defaults={"cats": "1.0"}, with_tokens=True)
    with envoy.running(registered):
        for sent in ({}, {"authorization": "Bearer x"}, {"authorization": "Bearer"}):
            assert envoy.client.post("/predictions/cats", headers=sent).status_code == 401
    for path in envoy.config.folder.glob("*.json"):
        if path.name.startswith("rds"):
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_withdrawn_version_gets_no_request_and_torchserve_none_for_it(envoy):
    one, two = envoy.worker("cats", "1.0"), envoy.worker("cats", "2.0")
    before = Registered(workers=(one, two), defaults={"cats": "1.0"})
    with envoy.running(before):
        envoy.files.update(replace(before, withdrawn=frozenset([("cats", "2.0")])))
        for path in ("/predictions/cats/2.0", "/v2/models/cats/versions/2.0/infer"):
            answer = envoy.client.post(path)
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
            assert "being unregistered" in answer.json()["message"]
        assert envoy.said("/predictions/cats").split()[0] == "cats/1.0/1"
        envoy.files.update(replace(before, withdrawn=frozenset([("cats", "1.0")])))
        assert envoy.client.post("/predictions/cats").status_code == 503
        assert envoy.said("/predictions/cats/2.0").split()[0] == "cats/2.0/1"


def test_a_request_whose_worker_was_unregistered_while_it_waited_is_told_in_words(envoy):
    dead = replace(envoy.worker("cats", "2.0"), socket=f"{envoy.config.folder}/dead")
    registered = Registered(workers=(dead, envoy.worker("cats", "1.0")), defaults={"cats": "1.0"})
    with envoy.running(registered), ThreadPoolExecutor(1) as others:
        waits = others.submit(envoy.client.post, "/predictions/cats/2.0")
        time.sleep(0.5)
        assert not waits.done()
        envoy.files.update(replace(registered, workers=registered.workers[1:]))
        answer = waits.result(timeout=10)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert answer.json()["type"] == "ServiceUnavailableException"
        assert "not registered any more" in answer.json()["message"]
        # TorchServe knows what became of it.
        assert envoy.said("/predictions/cats/2.0").split()[0] == "torchserve"


def test_a_clients_deadline_reaches_the_worker(envoy):
    cats = envoy.worker("cats", "1.0")
    with envoy.running(Registered(workers=(cats,), defaults={"cats": "1.0"})):
        sent = {WITHIN: "70", FRONT_WITHIN: "99999"}
        answer = envoy.client.post("/predictions/cats", headers=sent)
        assert answer.headers["within"] == "70"
        assert envoy.client.post("/predictions/cats").headers["within"] == "None"


def test_a_changed_default_loses_no_request(envoy):
    one, two = envoy.worker("cats", "1.0"), envoy.worker("cats", "2.0")
    before = Registered(workers=(one,), defaults={"cats": "1.0"})
    after = Registered(workers=(two,), defaults={"cats": "2.0"})
    with envoy.running(before):
        ended = threading.Event()
        answered: list[str] = []

        def ask() -> None:
            with httpx.Client(base_url=envoy.client.base_url, trust_env=False) as client:
                while not ended.is_set():
                    answer = client.post("/predictions/cats", content=b"x")
                    answered.append(answer.text.split()[0] if answer.is_success else answer.text)

        with ThreadPoolExecutor(4) as crowd:
            asking = [crowd.submit(ask) for _ in range(4)]
            until(lambda: len(answered) > 100)
            envoy.files.update(Registered(workers=(one, two), defaults={"cats": "1.0"}))
            envoy.files.update(Registered(workers=(one, two), defaults={"cats": "2.0"}))
            until(lambda: answered[-1] == "cats/2.0/1")
            envoy.files.update(after)
            envoy.workers.end("cats/1.0/1")
            count = len(answered)
            until(lambda: len(answered) > count + 100)
            ended.set()
            for each in asking:
                each.result(10)
        assert set(answered) == {"cats/1.0/1", "cats/2.0/1"}
        assert set(answered[count + 50 :]) == {"cats/2.0/1"}


def test_a_worker_that_is_gone_costs_no_request(envoy):
    alive, dead = envoy.worker("cats", "1.0", 1), envoy.worker("cats", "1.0", 2)
    with envoy.running(Registered(workers=(alive, dead), defaults={"cats": "1.0"})):
        envoy.workers.end("cats/1.0/2")
        Path(dead.socket).unlink(missing_ok=True)
        for _ in range(50):
            assert envoy.said("/predictions/cats").split()[0] == "cats/1.0/1"


def test_a_worker_that_hangs_does_not_collect_the_clients_of_the_others(envoy):
    alive = envoy.worker("cats", "1.0", 1)
    stuck = replace(alive, socket=f"{envoy.config.folder}/stuck")
    with (
        socket.socket(socket.AF_UNIX) as listener,
        envoy.running(Registered(workers=(alive, stuck), defaults={"cats": "1.0"})),
        ThreadPoolExecutor(8) as crowd,
    ):
        listener.bind(stuck.socket)
        listener.listen()  # whoever connects waits
        answers: list[str] = []

        def ask() -> None:
            with httpx.Client(base_url=envoy.client.base_url, trust_env=False, timeout=3) as client:
                for _ in range(100):
                    try:
                        answers.append(client.post("/predictions/cats").text.split()[0])
                    except httpx.ReadTimeout:
                        return

        for each in [crowd.submit(ask) for _ in range(8)]:
            each.result()
        # It keeps half of the clients. Two threads of Envoy may choose it at the same instant, for
        # one more.
        assert answers.count("cats/1.0/1") >= 300


def test_a_dead_worker_takes_no_time_of_others_while_nobody_takes_it_out(envoy):
    """It has the least requests, since it answers none."""
    alive, dead = envoy.worker("cats", "1.0", 1), envoy.worker("cats", "1.0", 2)
    envoy.workers.take_s = 0.1
    with (
        envoy.running(Registered(workers=(alive, dead), defaults={"cats": "1.0"})),
        ThreadPoolExecutor(4) as crowd,
    ):
        envoy.workers.end("cats/1.0/2")
        Path(dead.socket).unlink(missing_ok=True)

        def took_s() -> float:
            began = time.monotonic()
            with httpx.Client(base_url=envoy.client.base_url, trust_env=False) as client:
                answers = {client.post("/predictions/cats").text.split()[0] for _ in range(10)}
            assert answers == {"cats/1.0/1"}
            return time.monotonic() - began

        waits = [crowd.submit(took_s) for _ in range(4)]
        assert max(each.result() for each in waits) < 3


@pytest.mark.parametrize("garbage", ["{", '{"resources": []}', ""])
def test_files_that_somebody_replaces_are_restored_and_no_answer_is_wrong(envoy, garbage):
    one, two = envoy.worker("cats", "1.0"), envoy.worker("cats", "2.0")
    before = Registered(workers=(one, two), defaults={"cats": "1.0"})
    with envoy.running(before):
        for path in sorted(envoy.config.folder.glob("*.json")):
            atomic_write(path, garbage)
            assert envoy.files.restore() == [path.name]
        until(lambda: envoy.said("/predictions/cats").split()[0] == "cats/1.0/1")
        assert envoy.said("/predictions/cats/2.0").split()[0] == "cats/2.0/1"
        envoy.files.update(replace(before, defaults={"cats": "2.0"}))
        until(lambda: envoy.said("/predictions/cats").split()[0] == "cats/2.0/1")


def test_requests_wait_for_the_only_worker_while_it_is_replaced(envoy):
    socket = str(envoy.config.folder / "again.sock")
    worker = replace(envoy.worker("cats", "1.0"), socket=socket, replaced=True)
    with (
        envoy.running(Registered(workers=(worker,), defaults={"cats": "1.0"})),
        ThreadPoolExecutor() as crowd,
    ):
        waiting = [crowd.submit(envoy.said, "/predictions/cats") for _ in range(20)]
        time.sleep(0.4)
        assert not any(each.done() for each in waiting)
        Path(envoy.worker("cats", "1.0").socket).rename(socket)
        assert {each.result().split()[0] for each in waiting} == {"cats/1.0/1"}


def test_a_version_whose_workers_die_often_gets_no_request(envoy):
    one, two = envoy.worker("cats", "1.0"), envoy.worker("cats", "2.0")
    well = Registered(workers=(one, two), defaults={"cats": "1.0"})
    with envoy.running(well):
        envoy.files.update(replace(well, failing=frozenset([("cats", "1.0")])))
        for path in ("/predictions/cats", "/v2/models/cats/infer", "/predictions/cats/1.0"):
            answer = envoy.client.post(path)
            assert answer.status_code == 503 and "out of service" in answer.json()["message"]
        assert envoy.said("/predictions/cats/2.0").split()[0] == "cats/2.0/1"
        envoy.files.update(well)
        until(lambda: envoy.said("/predictions/cats").split()[0] == "cats/1.0/1")


def test_a_version_without_workers_goes_to_torchserve(envoy):
    cats = envoy.worker("cats", "1.0")
    with envoy.running(Registered(workers=(cats,), defaults={"cats": "1.0"})):
        assert envoy.said("/predictions/cats").split()[0] == "cats/1.0/1"
        envoy.files.update(Registered(defaults={"cats": "1.0"}))
        until(lambda: envoy.said("/predictions/cats").split()[0] == "torchserve")


def test_envoys_own_errors_have_torchserves_form(envoy):
    dies = replace(envoy.worker("dies", "1"), socket=f"{envoy.config.folder}/dies")
    with (
        socket.socket(socket.AF_UNIX) as listener,
        envoy.running(Registered(workers=(dies,), defaults={"dies": "1"})),
        ThreadPoolExecutor(1) as others,
    ):
        listener.bind(dies.socket)
        listener.listen()

        def read_and_hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)

        for body in (b"", b"a" * 3_000_000):  # Envoy does not keep the second for another attempt
            others.submit(read_and_hang_up)
            answer = envoy.client.post("/predictions/dies", content=body)
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
            assert answer.json()["code"] == 503
            assert answer.json()["type"] == "ServiceUnavailableException"
        many = {f"x-{number}": "y" * 7000 for number in range(10)}
        assert envoy.client.get("/ping", headers=many).status_code == 431


def test_requests_are_counted(envoy):
    envoy.workers.take_s = 0.5
    with envoy.running(Registered()), ThreadPoolExecutor(1) as others:
        asked = others.submit(envoy.said, "/ping")
        until(lambda: envoy.admin.requests() == Requests(active=1, total=1))
        assert asked.result().startswith("torchserve")
        until(lambda: envoy.admin.requests() == Requests(active=0, total=1))
    assert envoy.admin.requests() == Requests(active=0, total=0)


def test_responses_are_counted_by_their_status_and_what_has_none_by_version(envoy):
    one = envoy.worker("cats.a", "1.0")
    with envoy.running(Registered(workers=(one,))), ThreadPoolExecutor(1) as others:
        envoy.workers.take_s = 0.5
        slow = envoy.worker("dogs", "2.0")
        envoy.files.update(Registered(workers=(one, slow)))
        asked = others.submit(envoy.said, "/predictions/dogs/2.0")
        until(lambda: envoy.admin.unanswered().get(("dogs", "2.0")) == 1)
        assert asked.result() == "dogs/2.0/1 /predictions/dogs/2.0"
        assert envoy.admin.unanswered() == {("cats.a", "1.0"): 0, ("dogs", "2.0"): 0}
        envoy.client.get("/ping", headers={"x": "y" * 70_000})
        counted = envoy.admin.responses()
        assert (counted["2xx"], counted["4xx"], counted["5xx"]) == (1, 1, 0)
    assert envoy.admin.responses() == envoy.admin.unanswered() == {}


def test_an_envoy_that_drains_answers_whom_it_knows_and_lets_nobody_else_in(envoy):
    with envoy.running(Registered()):
        assert envoy.said("/ping").startswith("torchserve")
        envoy.admin.stop_listening()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{envoy.client.base_url}/ping", trust_env=False)
        envoy.admin.drain()
        answer = envoy.client.get("/ping")
        assert answer.is_success and answer.headers["connection"] == "close"
    assert not envoy.admin.is_ready()


def test_what_could_not_be_written_is_written_the_next_time(envoy, monkeypatch):
    one, two = envoy.worker("cats", "1.0"), envoy.worker("cats", "2.0")
    after = Registered(workers=(two,), defaults={"cats": "2.0"})
    with envoy.running(Registered(workers=(one,), defaults={"cats": "1.0"})):
        with monkeypatch.context() as full:
            full.setattr("shipway.front.kept.atomic_write", full_disk)
            with pytest.raises(OSError, match="No space left"):
                envoy.files.update(after)
        assert envoy.said("/predictions/cats").split()[0] == "cats/1.0/1"
        envoy.files.update(after)
        until(lambda: envoy.said("/predictions/cats").split()[0] == "cats/2.0/1")


def full_disk(*arguments: object, **options: object) -> None:
    raise OSError(28, "No space left on device")
