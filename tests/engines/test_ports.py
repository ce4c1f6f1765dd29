"""Free ports."""

import socket
import subprocess
import sys
from pathlib import Path

from shipway.engines.ports import free_ports

PORTS_OF_CLIENTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_free_ports_differ_and_can_be_listened_on():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    lowest, highest = map(int, PORTS_OF_CLIENTS.read_text().split())
    assert not any(lowest <= port <= highest for port in ports)
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_no_two_processes_are_given_the_same_port():
    """Two servers that start at once, each in the time between asking and listening."""
    ask = (
        "import sys; from shipway.engines import ports; ports._lowest_of_clients = lambda: 20600; "
        "print(*ports.free_ports(40), flush=True); sys.stdin.read()"
    )
    asked = [
        subprocess.Popen(
            [sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(5)
    ]
    try:
        ports = [port for each in asked for port in each.stdout.readline().split()]
    finally:
        for each in asked:
            each.communicate()
    assert len(ports) == 200 and len(set(ports)) == 200
