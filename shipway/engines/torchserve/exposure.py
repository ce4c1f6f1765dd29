"""Checks before a start: ports are free, and only this machine can reach the management API."""

import socket
from pathlib import Path

from shipway.engines.errors import LaunchError
from shipway.engines.torchserve.config import Listener, ServerConfig


def check_exposure(config: ServerConfig, expose_management: bool) -> None:
    """Checks that other machines can reach inference only, unless both the configuration and the
    command line allow more. Raises LaunchError."""
    missing = []
    if not config.may_expose_management:
        missing.append(f"allow_management_beyond_loopback=true in {config.path}")
    if not expose_management:
        missing.append("`shipway serve --expose-management`")
    if missing and config.exposed:
        exposed = ", ".join(
            f"{listener.purpose} ({listener.host}:{listener.port})" for listener in config.exposed
        )
        raise LaunchError(
            f"Other machines could reach {exposed}. Management can run code on this machine, and "
            "metrics need no token. Use 127.0.0.1; to expose them on purpose, allow it in both "
            f"places. Missing: {' and '.join(missing)}."
        )


def check_ports(config: ServerConfig) -> None:
    """Checks that all ports are free. Raises LaunchError with the first that is not."""
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
            f"{error.strerror}. If another Shipway server uses it, stop that with `shipway stop`. "
            f"Otherwise set another port in {config_path}, or in a copy named with --config."
        ) from error
