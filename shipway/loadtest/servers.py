"""The servers that are compared: this project's, and TorchServe as it starts by itself."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from shipway.archive.mar import inspect_mar
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve import launch
from shipway.engines.torchserve.config import find_config, read_config
from shipway.engines.torchserve.java import find_java
from shipway.engines.torchserve.management import ManagementClient
from shipway.engines.torchserve.tokens import Tokens, bearer
from shipway.loadtest.load import Closed, Input, Plan, Target
from shipway.loadtest.result import Result
from shipway.loadtest.runner import measure

READY_WITHIN_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model that answers."""

    url: str
    headers: Mapping[str, str]
    process: int
    """The one that started all others."""
    workers: tuple[int, ...] = ()
    """The process of each, where it is known."""
    exporter: str | None = None
    """http://HOST:PORT; stock TorchServe has none, nor a server that was told to do without."""

    def worker_memory_mb(self) -> float:
        """The resident memory of the largest worker."""
        return max(psutil.Process(each).memory_info().rss for each in self.workers) / 1e6

    def memory_mb(self) -> float:
        """Of all its processes: what each has for itself, and once what they share.

        What they share is taken to be the most that one of them shares with anybody.
        """
        root = psutil.Process(self.process)
        memory = []
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                memory.append(process.memory_full_info())
        shared = max(each.rss - each.uss for each in memory)
        return (sum(each.uss for each in memory) + shared) / 1e6


def closed_loop(
    served: Served,
    bodies: Sequence[bytes],
    clients: int,
    seconds: float,
    *,
    content_type: str = "application/octet-stream",
    warm_up_s: float = 4.0,
) -> Result:
    """What so many clients get that each send their next request when the last is answered."""
    return measure(
        Plan(
            target=Target(url=served.url),
            headers=dict(served.headers),
            inputs=tuple(Input(name="", content_type=content_type, body=body) for body in bodies),
            load=Closed(clients=clients),
            warm_up_s=warm_up_s,
            seconds=seconds,
        )
    )


def end_with_us() -> None:
    """Lets SIGTERM end this process as Ctrl-C does, so that no server is left running."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextmanager
def ours(
    folder: Path, mar: Path, *, workers: int, batch_size: int, delay_ms: int | None = None
) -> Iterator[Served]:
    """`mar`, which lies in a model store, served as `shipway serve` does it, on free ports."""
    with (
        our_server(folder, mar.parent) as state,
        registered(state, mar, workers=workers, batch_size=batch_size, delay_ms=delay_ms) as served,
    ):
        yield served


@contextmanager
def our_server(folder: Path, model_store: Path, **settings: object) -> Iterator[StateDirectory]:
    """A server as `shipway serve` starts it, on free ports, with no model yet.

    `settings` are lines of config.properties, instead of those it has.
    """
    config = folder / "config.properties"
    text = with_free_ports(find_config(Path.cwd()).read_text())
    config.write_text(with_settings(text, settings))
    state = StateDirectory(folder / "state")
    launched = launch.start(
        read_config(config),
        java=find_java(),
        model_store=model_store,
        state=state,
        dies_with_us=True,
    )
    try:
        yield state
    finally:
        launch.end(launched, state)


@contextmanager
def registered(
    state: StateDirectory, mar: Path, *, workers: int, batch_size: int, delay_ms: int | None = None
) -> Iterator[Served]:
    """`mar` of that server's model store; unregistered when the block ends.

    With its own batch delay, if none is given.
    """
    info = inspect_mar(mar)
    with closing(ManagementClient(state)) as management:
        management.register(
            mar.name,
            name=info.name,
            version=info.version,
            batch_size=batch_size,
            max_batch_delay_ms=info.max_batch_delay_ms if delay_ms is None else delay_ms,
            workers=workers,
        )
        [described] = management.describe(info.name)
        record = state.require_running()
        addresses = record.addresses
        token = Tokens(state.key_file, addresses.management, record.trust).get("inference")
        yield Served(
            url=f"{addresses.inference}/predictions/{info.name}",
            headers=bearer(token),
            process=record.pid,
            workers=described.worker_pids,
            exporter=addresses.exporter,
        )
        management.unregister(info.name, info.version)


@contextmanager
def stock(
    folder: Path,
    mar: Path,
    name: str,
    *,
    workers: int,
    python: str | Path = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """`mar` on TorchServe by its own command, with its own settings but for ports and tokens.

    `python` is that of the environment it is installed in, `environment` what its handler is to
    find in os.environ besides.
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
        yield Served(
            url=f"http://127.0.0.1:{ports[0]}/predictions/{name}",
            headers={},
            process=process.pid,
            workers=tuple(each["pid"] for each in described["workers"]),
        )
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> dict:
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
    """For a server that has an interpreter and packages of its own."""
    return {key: value for key, value in environment.items() if not key.startswith("PYTHON")}


def with_free_ports(text: str) -> str:
    """A config.properties with other ports: those that nobody listens on."""
    setting = r"^(\w+_address=https?://[\w.]+:|\w+_port=)\d+$"
    places = re.findall(setting, text, flags=re.MULTILINE)
    ports = iter(free_ports(len(places)))
    return re.sub(setting, lambda found: f"{found[1]}{next(ports)}", text, flags=re.MULTILINE)


def with_settings(text: str, settings: Mapping[str, object]) -> str:
    """A config.properties with other values for some keys, those it lacks at its end."""
    for key, value in settings.items():
        line = f"{key}={value}"
        escaped = line.replace("\\", r"\\")
        text, found = re.subn(rf"^{key}=.*$", escaped, text, flags=re.MULTILINE)
        if not found:
            text += f"{line}\n"
    return text


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held until all are known, so that they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
