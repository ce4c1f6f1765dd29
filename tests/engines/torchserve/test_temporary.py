"""Ports, settings and memory of temporary servers; end_to_end/test_known_latency.py starts one."""

import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from shipway.engines.state import LAUNCH_MARK
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


def test_the_memory_of_a_server_includes_processes_that_it_is_not_the_ancestor_of():
    large = "held = bytearray(b'x') * 10**8; print('ready', flush=True); input()"
    commands = {"server": "print('ready', flush=True); input()", "worker": large}
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {LAUNCH_MARK: "a-launch"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name, code in commands.items()
    }
    try:
        for each in started.values():
            assert each.stdout is not None and each.stdout.readline() == b"ready\n"
        model = ServedModel(url="", headers={}, process=started["server"].pid)
        alone = model.memory_mb()
        marked = replace(model, launch="a-launch").memory_mb()
        assert marked - alone > 95
    finally:
        for each in started.values():
            each.communicate(b"\n")
