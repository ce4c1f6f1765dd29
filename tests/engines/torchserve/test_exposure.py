import socket

import psutil
import pytest

from shipway.engines.errors import LaunchError
from shipway.engines.ports import free_ports
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve import launch
from tests.engines.torchserve.test_launch import start


def test_a_port_that_is_taken_is_named_with_its_purpose_before_java_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            LaunchError, match=rf"Port {port} on 127\.0\.0\.1 \(metrics\).*--config"
        ):
            start(tmp_path, metrics_address=f"http://127.0.0.1:{port}")
    assert not (tmp_path / ".shipway").exists()


def test_management_and_metrics_are_kept_to_this_machine_unless_told_twice(tmp_path):
    everywhere = {
        "management_address": "http://0.0.0.0:18081",
        "grpc_management_address": "0.0.0.0",
        "metrics_address": "http://0.0.0.0:18082",
    }
    allowed = {"allow_management_beyond_loopback": "true"}
    in_words = r"reach management \(0\.0\.0\.0:18081\), metrics .*, gRPC management .*"
    with pytest.raises(LaunchError, match=in_words + "beyond_loopback=true in .* and `shipway"):
        start(tmp_path, **everywhere)
    with pytest.raises(LaunchError, match=r"Missing: `shipway serve --expose-management`\."):
        start(tmp_path, **everywhere, **allowed)
    with pytest.raises(
        LaunchError, match=r"Missing: allow_management_beyond_loopback=true in \S+$"
    ):
        start(tmp_path, **everywhere, expose_management=True)
    assert not (tmp_path / ".shipway").exists()


def test_told_twice_management_listens_for_others(tmp_path):
    (port,) = free_ports(1)
    launched = start(
        tmp_path,
        management_address=f"http://0.0.0.0:{port}",
        allow_management_beyond_loopback="true",
        expose_management=True,
    )
    try:
        listening = psutil.Process(launched.record.pid).net_connections("tcp")
        assert {each.laddr.port for each in listening if each.laddr.ip in ("0.0.0.0", "::")} == {
            port
        }
    finally:
        launch.end(launched, StateDirectory(tmp_path / ".shipway"))
