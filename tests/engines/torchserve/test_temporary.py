"""Temporary servers: on free ports, with the settings that are asked for, and gone afterwards."""

import socket

import httpx
import psutil
import pytest

from shipway.engines.torchserve.temporary import (
    ServedModel,
    free_ports,
    registered,
    served_model,
    temporary_server,
    with_free_ports,
    with_settings,
)
from tests.servers import build_mar

ECHO = """
class Echo:
    def initialize(self, context):
        pass

    def handle(self, rows, context):
        return [len(row.get("body") or b"") for row in rows]
"""
CONFIG = (
    "inference_address=http://127.0.0.1:8080\n"
    "grpc_inference_port=7070\n"
    "job_queue_size=100\n"
    "# load_models=all\n"
)


def test_free_ports_differ_and_can_be_listened_on():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_every_port_of_a_config_is_replaced_and_nothing_else():
    lines = with_free_ports(CONFIG).splitlines()
    address, port, *others = lines
    assert address.startswith("inference_address=http://127.0.0.1:") and "8080" not in address
    assert port.startswith("grpc_inference_port=") and "7070" not in port
    assert others == CONFIG.splitlines()[2:]


def test_settings_replace_a_line_or_are_added():
    text = with_settings(CONFIG, {"job_queue_size": 7, "max_request_size": 9})
    assert text.count("job_queue_size=") == 1
    assert {"job_queue_size=7", "max_request_size=9", "# load_models=all"} <= set(text.splitlines())


def test_a_model_answers_with_its_headers_until_the_block_ends(tmp_path):
    mar = build_mar(tmp_path / "store", "echo", "1.0", ECHO)
    with served_model(tmp_path, mar, workers=1, batch_size=1) as model:
        answer = httpx.post(model.url, content=b"four", headers=model.headers, trust_env=False)
        assert (answer.status_code, answer.text) == (200, "4")
        assert httpx.post(model.url, content=b"four", trust_env=False).is_error  # no token
        assert len(model.workers) == 1
        assert 0 < model.worker_memory_mb() < model.memory_mb()
    assert not psutil.pid_exists(model.process) and not psutil.pid_exists(model.workers[0])


def test_a_server_takes_settings_and_another_model_after_the_first(tmp_path):
    mar = build_mar(tmp_path / "store", "echo", "1.0", ECHO)
    with temporary_server(tmp_path, mar.parent, max_request_size=10) as state:
        for batch_size in (1, 2):
            with registered(state, mar, workers=1, batch_size=batch_size) as model:
                answers = [
                    httpx.post(model.url, content=bytes(n), headers=model.headers, trust_env=False)
                    for n in (2, 20)
                ]
                assert answers[0].status_code == 200 and answers[1].is_error
        assert httpx.post(model.url, headers=model.headers, trust_env=False).status_code == 404


def test_the_memory_of_a_process_without_children_is_its_own():
    own = psutil.Process()
    model = ServedModel(url="", headers={}, process=own.pid, workers=(own.pid,))
    assert model.worker_memory_mb() == pytest.approx(own.memory_info().rss / 1e6, rel=0.1)
