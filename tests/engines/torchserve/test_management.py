import time

import httpx
import psutil
import pytest

from shipway.engines.errors import (
    DefaultVersionInUse,
    ModelNotFound,
    NoServer,
    Refused,
    Unreachable,
    VersionExists,
    VersionNotFound,
    WorkersFailed,
)
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.management import ManagementClient
from shipway.engines.torchserve.tokens import bearer
from tests.echo import register_echo
from tests.servers import until


def version_that_answers(server) -> str:
    [answer] = server.inference.predict("echo", b"hello")
    return answer["version"]


def registration_by_url(server, url: str) -> httpx.Response:
    """As somebody with the token but without our client would try it."""
    return httpx.post(
        f"{server.record.addresses.management}/models",
        params={"url": url, "model_name": "foreign", "initial_workers": 0},
        headers=bearer(server.tokens.get("management")),
    )


def test_a_second_version_lives_beside_the_first_until_it_is_promoted_and_the_first_removed(
    server, echo_mars
):
    register_echo(server, echo_mars["2.0"], "2.0", batch_size=2)
    first, second = server.management.describe("echo")
    assert (first.version, first.default, first.batch_size) == ("1.0", True, 4)
    assert (second.version, second.default, second.batch_size) == ("2.0", False, 2)
    assert second.max_batch_delay_ms == 50
    assert second.workers == second.workers_ready == len(second.worker_pids) == 1
    assert version_that_answers(server) == "1.0"
    assert server.inference.predict("echo", b"x", version="2.0")[0]["version"] == "2.0"

    server.management.promote("echo", "2.0")
    assert version_that_answers(server) == "2.0"
    with pytest.raises(DefaultVersionInUse, match="2.0 is the default .*`shipway promote echo 1"):
        server.management.unregister("echo", "2.0")

    server.management.promote("echo", "1.0")
    server.management.unregister("echo", "2.0")
    assert [one.version for one in server.management.models()] == ["1.0"]
    until(lambda: not psutil.pid_exists(second.worker_pids[0]))
    assert version_that_answers(server) == "1.0"
    assert (server.model_store / "echo-2.0.mar").exists()


def test_a_version_that_exists_is_refused_and_goes_on_serving(server, echo_mars):
    [before] = server.management.describe("echo")
    with pytest.raises(VersionExists, match=r"echo 1\.0 is already registered"):
        register_echo(server, echo_mars["1.0"], "1.0")
    [after] = server.management.describe("echo")
    assert after.worker_pids == before.worker_pids
    assert version_that_answers(server) == "1.0"


def test_workers_that_do_not_start_are_an_error_with_their_reason(server, echo_mars):
    with pytest.raises(WorkersFailed, match=r"ValueError: artifact/programs/int8\.onnx is not"):
        register_echo(server, echo_mars["3.0"], "3.0")
    (server.model_store / "echo-3.0.mar").unlink()
    assert [one.version for one in server.management.describe("echo")] == ["1.0"]
    assert version_that_answers(server) == "1.0"


@pytest.mark.parametrize("call", ["promote", "unregister"])
def test_an_unknown_version_is_named_beside_those_there_are(server, call):
    with pytest.raises(
        VersionNotFound, match=r"echo has no version 9\.9. Registered versions: 1\.0"
    ):
        getattr(server.management, call)("echo", "9.9")


@pytest.mark.parametrize("call", ["promote", "unregister"])
def test_an_unknown_model_is_named_beside_those_there_are(server, call):
    with pytest.raises(
        ModelNotFound, match="Model 'nothing' is not registered. Registered models: echo"
    ):
        getattr(server.management, call)("nothing", "1.0")


def test_describing_an_unknown_model_says_so_whatever_its_name(server):
    for name in ("nothing", "with space", "über/..", "?x=1#"):
        with pytest.raises(ModelNotFound):
            server.management.describe(name)


def test_an_archive_that_is_not_in_the_store_is_refused_by_name(server):
    with pytest.raises(Refused, match=r"TorchServe refused missing\.mar"):
        server.management.register(
            "missing.mar", name="m", version="1", batch_size=1, max_batch_delay_ms=0, workers=1
        )


def test_archives_come_from_the_model_store_and_nowhere_else(server, tmp_path):
    (server.model_store / "below").mkdir()
    foreign = tmp_path / "foreign.mar"
    foreign.write_bytes((server.model_store / "echo-1.0.mar").read_bytes())
    upward = "/".join(["%2e%2e"] * len(server.model_store.parts))
    for url in (
        "http://127.0.0.1:9/foreign.mar",
        "https://example.org/foreign.mar",
        f"file://{foreign}",
        f"FILE://{foreign}",
        f"file://{server.model_store}/../foreign.mar",
        f"file://{server.model_store}/{upward}{foreign}",
        f"file://{server.model_store}/below/foreign.mar",
        f"file://{server.model_store}x/foreign.mar",
    ):
        answer = registration_by_url(server, url)
        assert answer.status_code == 404, url
        assert "allowed URL" in answer.text or "Relative path" in answer.text, url
    assert not list(server.model_store.glob("foreign*"))
    assert server.management.names() == ["echo"]


def test_a_wrong_token_is_refused(server):
    answer = httpx.get(f"{server.record.addresses.management}/models", headers=bearer("wrong"))
    assert answer.status_code == 400
    assert answer.json()["type"] == "InvalidKeyException"


def test_metrics_are_prometheus_and_the_systems_are_among_them(server):
    server.inference.predict("echo", b"x")

    def metrics() -> str:
        return httpx.get(f"{server.record.addresses.metrics}/metrics").text

    until(lambda: "CPUUtilization{" in metrics())
    assert "# TYPE ts_inference_requests_total counter" in metrics()
    # TorchServe's collector looks for GPUs with packages that are not there, unless it is told of
    # none. (That it loses its pipe when a worker dies just then is nothing of ours.)
    log = (server.state.logs / "ts_log.log").read_text()
    assert "ModuleNotFoundError" not in log and "nvgpu" not in log


def test_requests_leave_no_line_in_any_log(server):
    def lines() -> int:
        return sum(log.read_bytes().count(b"\n") for log in server.state.logs.iterdir())

    def quiet_for_a_second() -> bool:
        found = lines()
        time.sleep(1)
        return lines() == found

    server.inference.predict("echo", b"x")
    # Workers of versions that other tests took out of service may still be saying so.
    until(quiet_for_a_second)
    before = lines()
    for _ in range(25):
        server.inference.predict("echo", b"x")
        server.grpc.predict("echo", b"x")
    assert lines() == before


def test_without_a_server_there_is_no_client(tmp_path):
    with pytest.raises(NoServer, match="`shipway serve`"):
        ManagementClient(StateDirectory(tmp_path))


def test_a_server_that_does_not_answer_is_an_error_with_the_address(server):
    client = ManagementClient(server.state)
    client._http.base_url = httpx.URL("http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="does not answer"):
        client.names()
