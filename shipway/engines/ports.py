"""Free ports of this machine."""

import random
import socket
from pathlib import Path

LOWEST_PORT = 20000
"""Below are those of well-known services, and those that Ray gives to its workers."""
TRIES = 500
"""Ports that are tried for being free."""


def free_ports(count: int) -> list[int]:
    """`count` different ports of 127.0.0.1 that nothing listens on.

    They lie below those that the system gives to clients: between now and the start of the server
    one of those could become the port of somebody's connection.
    """
    candidates = random.SystemRandom().sample(range(LOWEST_PORT, _lowest_of_clients()), TRIES)
    ports: list[int] = []
    for port in candidates:
        if len(ports) == count:
            break
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        ports.append(port)
    return ports


def _lowest_of_clients() -> int:
    """The lowest port that Linux gives to a client; elsewhere the usual one there."""
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32768
    # Where nearly all ports are for clients, there is no better choice than any port.
    return lowest if lowest > LOWEST_PORT + 2 * TRIES else 61000
