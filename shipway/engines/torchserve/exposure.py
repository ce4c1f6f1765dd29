"""Who can reach a server: its ports must be free, and its management for this machine alone."""

import socket
from pathlib import Path

from shipway.engines.errors import LaunchError
from shipway.engines.torchserve.config import Listener, ServerConfig


def check_exposure(config: ServerConfig, expose_management: bool) -> None:
    """Raises LaunchError if other machines could reach more than inference, unless both the
    configuration and the command line allow it."""
    missing = []
    if not config.may_expose_management:
        missing.append(f"allow_management_beyond_loopback=true in {config.path}")
    if not expose_management:
        missing.append("`shipway serve --expose-management`")
    if missing and config.exposed:
        listed = ", ".join(f"{one.purpose} ({one.host}:{one.port})" for one in config.exposed)
        raise LaunchError(
            f"Others could reach {listed}. Whoever may manage the server can run code on it, and "
            "metrics ask for no token. Keep them on 127.0.0.1; or, if it is meant, say it in both "
            f"places. Missing is {' and '.join(missing)}."
        )


def check_ports(config: ServerConfig) -> None:
    """Raises LaunchError, naming the port, if one that the server needs is taken."""
    for listener in config.listeners:
        _check_free(listener, config.path)


def _check_free(listener: Listener, config_path: Path) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listener.host.strip("[]"), listener.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise LaunchError(
            f"Port {listener.port} on {listener.host} ({listener.purpose}) cannot be used: "
            f"{error.strerror}. If it is a server of yours, end it with `shipway stop`; "
            f"otherwise give another port in {config_path} or in a copy named with --config."
        ) from error
