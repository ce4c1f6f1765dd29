"""Ports, settings and memory of temporary servers; end_to_end/test_known_latency.py starts one."""

import socket
from pathlib import Path

import psutil
import pytest

from shipway.engines.torchserve.temporary import (
    ServedModel,
    free_ports,
    with_free_ports,
    with_settings,
)

PORTS_OF_CLIENTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
CONFIG = (
    "inference_address=http://127.0.0.1:8080\n"
    "grpc_inference_port=7070\n"
    "job_queue_size=100\n"
    "# load_models=all\n"
)


def test_free_ports_differ_and_can_be_listened_on():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    lowest, highest = map(int, PORTS_OF_CLIENTS.read_text().split())
    assert not any(lowest <= port <= highest for port in ports)
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


def test_the_memory_of_a_process_without_children_is_its_own():
    own = psutil.Process()
    model = ServedModel(url="", headers={}, process=own.pid, workers=(own.pid,))
    assert model.worker_memory_mb() == pytest.approx(own.memory_info().rss / 1e6, rel=0.1)
