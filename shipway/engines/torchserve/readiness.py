"""Waits until a started server takes requests; on failure, reports the end of its logs."""

import socket
import subprocess
import time
from pathlib import Path

import httpx

from shipway.engines.errors import LaunchError
from shipway.engines.state import ServerRecord, StateDirectory
from shipway.engines.torchserve.tokens import Kind, TokenAuth, Tokens, tokens_of

READY_WITHIN_S = 60.0


def wait_until_ready(
    process: subprocess.Popen[bytes],
    exporter: subprocess.Popen[bytes] | None,
    front: subprocess.Popen[bytes] | None,
    record: ServerRecord,
    state: StateDirectory,
) -> None:
    """Returns when the server takes requests.

    Raises LaunchError with the end of its log if a process ends, or after READY_WITHIN_S.
    """
    tokens = tokens_of(state, record)
    deadline = time.monotonic() + READY_WITHIN_S
    with httpx.Client(timeout=2.0, verify=record.trust, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LaunchError(
                    f"TorchServe stopped with exit code {process.returncode} before it was ready. "
                    f"{end_of_logs(state)}"
                )
            if exporter and exporter.poll() is not None:
                raise LaunchError(
                    f"The metrics exporter stopped with exit code {exporter.returncode}. "
                    f"{_end_of(state.exporter_log)}"
                )
            if front and front.poll() is not None:
                raise LaunchError(
                    f"The front stopped with exit code {front.returncode}. "
                    f"{_end_of(state.front_log)}"
                )
            if _is_ready(client, record, tokens):
                return
            time.sleep(0.1)
    raise LaunchError(
        f"TorchServe was not ready within {READY_WITHIN_S:.0f} s, so it was stopped. "
        f"{_end_of(state.front_log) if front else end_of_logs(state)}"
    )


def _is_ready(client: httpx.Client, record: ServerRecord, tokens: Tokens) -> bool:
    # TorchServe opens its gRPC management service last.
    addresses = record.addresses
    exporter = [addresses.exporter.removeprefix("http://")] if addresses.exporter else []
    for address in (addresses.grpc_inference, addresses.grpc_management, *exporter):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
        except OSError:
            return False
    needed: tuple[tuple[str, Kind], ...] = (
        (f"{addresses.inference}/ping", "inference"),
        (f"{addresses.management}/models", "management"),
    )

    def answers(url: str, kind: Kind) -> bool:
        # A token may expire before the start is complete.
        return client.get(url, auth=TokenAuth(tokens, kind)).is_success

    try:
        return all(answers(url, kind) for url, kind in needed)
    except httpx.TransportError:
        return False


def end_of_logs(state: StateDirectory) -> str:
    """The last lines that TorchServe printed, for an error message."""
    return _end_of(state.console_log, state.logs / "ts_log.log")


def _end_of(*logs: Path, lines: int = 15) -> str:
    for log in logs:
        try:
            tail = log.read_text(errors="replace").strip().splitlines()[-lines:]
        except OSError:
            continue
        if tail:
            return f"The end of {log}:\n" + "\n".join(f"    {line}" for line in tail)
    return f"The logs in {logs[0].parent} are empty."
