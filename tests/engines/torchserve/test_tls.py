"""A server that speaks TLS alone, and every client of this project with it."""

import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from shipway.engines.errors import ConfigError, Unreachable
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve import tls
from shipway.engines.torchserve.config import read_config
from shipway.engines.torchserve.inference import GrpcPredictor, HttpPredictor
from shipway.engines.torchserve.tokens import bearer
from tests.echo import register_echo
from tests.servers import SHIPWAY, RunningServer, running_server, until, write_config


def make_certificate(folder: Path, *options: str) -> tuple[Path, Path]:
    """A certificate that is its own authority, and its key, as SECURITY.md makes them."""
    folder.mkdir(exist_ok=True)
    certificate, key = folder / "server.pem", folder / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-noenc", "-days", "365", "-subj", "/CN=shipway"]
        + [*(options or ("-newkey", "rsa:3072")), "-keyout", str(key), "-out", str(certificate)]
        + ["-addext", "subjectAltName=DNS:models.example.com,DNS:localhost,IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    return certificate, key


def with_tls(certificate: Path, key: Path, **settings: object) -> dict[str, Any]:
    return {
        "enable_grpc_ssl": "true",
        "certificate_file": certificate,
        "private_key_file": key,
    } | settings


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module", params=["off", "on"], ids=["without a front", "with a front"])
def server(request, tmp_path_factory, files, echo_mars) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("tls")
    with running_server(folder, secure=True, **with_tls(*files, front=request.param)) as running:
        register_echo(running, echo_mars["1.0"], "1.0")
        yield running


def shipway(server: RunningServer, *arguments: object, **environment: object) -> str:
    done = subprocess.run(
        [*SHIPWAY, *map(str, arguments), "--state", str(server.state.path)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"NO_COLOR": "1"} | {k: str(each) for k, each in environment.items()},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_asks_over_tls(server, tmp_path):
    file = tmp_path / "hello.txt"
    file.write_text("hello")
    assert server.record.addresses.inference.startswith("https://")
    assert [each["name"] for each in json.loads(shipway(server, "models", "--json"))] == ["echo"]
    assert shipway(server, "ready") == "ready\n"
    for over in ((), ("--grpc",)):
        answer = json.loads(shipway(server, "predict", "echo", file, "--json", *over))
        assert answer["predictions"][0]["label"] == "hello"
        load = ("--clients", 2, "--seconds", 1, "--warm-up", 0, "--out", tmp_path / "reports")
        report = json.loads(
            shipway(server, "bench", "echo", "--input", file, "--json", *load, *over)
        )
        assert report["results"][0]["latency"]["count"] > 10
        assert report["results"][0]["errors"] == []


def test_a_load_from_elsewhere_names_the_authority_as_openssl_does(server, files, tmp_path):
    file = tmp_path / "hello.txt"
    file.write_text("hello")
    url = f"{server.record.addresses.inference}/predictions/echo"
    token = server.tokens.get("inference")
    load = ("--clients", 1, "--seconds", 1, "--warm-up", 0, "--out", tmp_path)
    asked = ("bench", "--url", url, "--token", token, "--input", file, "--json", *load)
    report = json.loads(shipway(server, *asked, SSL_CERT_FILE=files[0]))
    assert report["results"][0]["errors"] == []


def test_the_exporter_reads_management_and_metrics_over_tls(server):
    page = f"{server.record.addresses.exporter}/metrics/shipway"
    up = 'shipway_source_up{source="management"} 1.0', 'shipway_source_up{source="torchserve"} 1.0'
    until(lambda: all(each in httpx.get(page, trust_env=False).text for each in up))


def test_a_client_that_knows_the_authority_and_the_name_is_answered(server, files):
    """As any client of others does it."""
    authority = ssl.create_default_context(cafile=files[0])
    token = bearer(server.tokens.get("inference"))
    url = f"{server.record.addresses.inference}/predictions/echo"
    assert httpx.post(url, content=b"x", headers=token, verify=authority).status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.post(url, content=b"x", headers=token)


def test_without_tls_nothing_is_answered(server):
    addresses = server.record.addresses
    for address in (addresses.inference, addresses.management, addresses.metrics):
        try:
            answer = httpx.get(f"{address.replace('https', 'http')}/ping", trust_env=False)
        except httpx.RemoteProtocolError:  # the front hangs up
            assert address == addresses.inference
            continue
        assert answer.status_code == 403 and "only accepts HTTPS" in answer.json()["status"]
    for address in (addresses.grpc_inference, addresses.grpc_management):
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.FutureTimeoutError):
            grpc.channel_ready_future(channel).result(timeout=1.0)


def test_whoever_shows_another_certificate_is_not_asked(server, tmp_path):
    """Of the same names, as somebody else on this machine might make one."""
    other, _ = make_certificate(tmp_path / "other")
    state = StateDirectory(tmp_path)
    assert state.write(replace(server.record, certificate=str(other)))
    for kind in (HttpPredictor, GrpcPredictor):
        with closing(kind(state)) as predictor, pytest.raises(Unreachable):
            predictor.predict("echo", b"x")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"enable_grpc_ssl": "false"}, "it is off for enable_grpc_ssl"),
        ({"metrics_address": "http://127.0.0.1:18082"}, "it is off for metrics_address"),
        (
            {"certificate_file": "server.pem"},
            "certificate_file=server.pem is not the absolute path",
        ),
        ({"private_key_file": "/nowhere"}, "private_key_file=/nowhere is not the absolute path"),
    ],
)
def test_half_of_tls_is_refused(files, tmp_path, change, complaint):
    config = write_config(tmp_path, secure=True, **with_tls(*files, **change))
    with pytest.raises(ConfigError, match=complaint):
        read_config(config)


def test_a_pair_that_torchserve_cannot_serve_with_is_refused(files, tmp_path):
    certificate, key = files
    other, other_key = make_certificate(tmp_path / "other")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    elliptic = make_certificate(tmp_path / "elliptic", *curve)
    for pair, complaint in (
        ((certificate, other_key), "not a valid certificate"),
        ((key, certificate), "not a valid certificate"),
        (elliptic, "is not an RSA key"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            tls.check(*pair)
    tls.check(other, other_key)
