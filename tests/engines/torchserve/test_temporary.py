"""Ports, settings and memory of temporary servers; end_to_end/test_known_latency.py starts one."""

import psutil
import pytest

from shipway.engines.torchserve.temporary import ServedModel, with_free_ports

CONFIG = (
    "inference_address=http://127.0.0.1:8080\n"
    "grpc_inference_port=7070\n"
    "job_queue_size=100\n"
    "# load_models=all\n"
)


def test_every_port_of_a_config_is_replaced_and_nothing_else():
    lines = with_free_ports(CONFIG).splitlines()
    address, port, *others = lines
    assert address.startswith("inference_address=http://127.0.0.1:") and "8080" not in address
    assert port.startswith("grpc_inference_port=") and "7070" not in port
    assert others == CONFIG.splitlines()[2:]


def test_the_memory_of_a_process_without_children_is_its_own():
    own = psutil.Process()
    model = ServedModel(url="", headers={}, process=own.pid, workers=(own.pid,))
    assert model.worker_memory_mb() == pytest.approx(own.memory_info().rss / 1e6, rel=0.1)
