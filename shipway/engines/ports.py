"""Free ports of this machine."""

import random
import socket
import sys
from collections import deque
from pathlib import Path

LOWEST_PORT = 20000
"""Below are those of well-known services, and those that Ray gives to its workers."""
TRIES = 500
"""Ports that are tried for being free."""
RESERVED = 50
"""Ports that a process keeps others from being given, the newest: those before are in use."""
_reserved: deque[socket.socket] = deque()
"""Bound, but not listening: a server can take the port, another call of `free_ports` cannot."""


def free_ports(count: int) -> list[int]:
    """`count` different ports of 127.0.0.1 that nothing listens on.

    They lie below those that the system gives to clients: between now and the start of the server
    one of those could become the port of somebody's connection. On Linux no other process that
    asks here is given them for a while; any server that sets SO_REUSEADDR, as nearly all
    do, can listen on them.
    """
    candidates = random.SystemRandom().sample(range(LOWEST_PORT, _lowest_of_clients()), TRIES)
    ports: list[int] = []
    for port in candidates:
        if len(ports) == count:
            break
        bound = socket.socket()
        try:
            bound.bind(("127.0.0.1", port))  # without SO_REUSEADDR: also not if it is reserved
        except OSError:
            bound.close()
            continue
        if sys.platform == "linux":  # elsewhere the server could not bind it
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _reserved.append(bound)
            if len(_reserved) > RESERVED:
                _reserved.popleft().close()
        else:
            bound.close()
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
