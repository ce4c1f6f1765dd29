"""Free ports."""

import socket
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
