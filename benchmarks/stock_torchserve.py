"""TorchServe with its default settings, on free ports: what this project is compared to."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from shipway.engines.ports import free_ports
from shipway.engines.torchserve.java import find_java
from shipway.engines.torchserve.temporary import ServedModel

READY_WITHIN_S = 180.0


@contextmanager
def stock_torchserve(
    folder: Path,
    mar: Path,
    name: str,
    *,
    workers: int,
    python: str | Path = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Iterator[ServedModel]:
    """`mar` on TorchServe, started by its own command with its default settings, ports aside.

    `python` is the interpreter that has TorchServe installed. `environment` is added to the
    handler's environment variables. Raises RuntimeError if no worker is ready within three minutes.
    """
    ports = free_ports(5)
    config = folder / "stock.properties"
    config.write_text(
        f"inference_address=http://127.0.0.1:{ports[0]}\n"
        f"management_address=http://127.0.0.1:{ports[1]}\n"
        f"metrics_address=http://127.0.0.1:{ports[2]}\n"
        f"grpc_inference_port={ports[3]}\ngrpc_management_port={ports[4]}\n"
        "disable_token_authorization=true\n"
        f"load_models={mar.name}\ndefault_workers_per_model={workers}\n"
    )
    temporary = folder / "tmp"
    temporary.mkdir()
    variables = {
        **without_python(os.environ),
        **(environment or {}),
        "JAVA_HOME": str(Path(find_java().executable).parent.parent),
        "TEMP": str(temporary),
        "TMPDIR": str(temporary),
    }
    log = folder / "stock.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [python, "-m", "ts.model_server", "--start", "--foreground", "--ncs"]
            + ["--model-store", str(mar.parent), "--ts-config", str(config)],
            cwd=folder,
            env=variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        described = _await(process, f"http://127.0.0.1:{ports[1]}/models/{name}", log)
        yield ServedModel(
            url=f"http://127.0.0.1:{ports[0]}/predictions/{name}",
            headers={},
            process=process.pid,
            workers=tuple(each["pid"] for each in described["workers"]),
        )
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            [described] = httpx.get(url, trust_env=False).json()
            if described["workers"] and all(
                each["status"] == "READY" for each in described["workers"]
            ):
                return described
        except (httpx.HTTPError, LookupError, ValueError):
            pass
        time.sleep(0.5)
    raise RuntimeError(f"TorchServe did not start; the end of {log}:\n{log.read_text()[-3000:]}")


def without_python(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without PYTHON* variables, for a server that has an interpreter of its own."""
    return {key: value for key, value in environment.items() if not key.startswith("PYTHON")}
