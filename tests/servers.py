"""A real TorchServe for a test: its own ports, state, model store, and nothing left afterwards."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from model_archiver import ModelArchiver, ModelArchiverConfig

from shipway.engines.state import ServerRecord, StateDirectory
from shipway.engines.torchserve import launch
from shipway.engines.torchserve.config import read_config, with_settings
from shipway.engines.torchserve.inference import GrpcPredictor, HttpPredictor
from shipway.engines.torchserve.java import find_java
from shipway.engines.torchserve.management import ManagementClient
from shipway.engines.torchserve.temporary import with_free_ports
from shipway.engines.torchserve.tokens import Tokens, tokens_of
from shipway.releases.exporter_process import exporter_command

REPOSITORY = Path(__file__).parent.parent
SHIPWAY = (sys.executable, "-m", "shipway.cli.main")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """What a test may want of a server."""

    record: ServerRecord
    state: StateDirectory
    config: Path
    model_store: Path
    management: ManagementClient
    inference: HttpPredictor
    grpc: GrpcPredictor
    tokens: Tokens

    def processes(self) -> list[psutil.Process]:
        """Java, the workers and whatever they started."""
        return self.record.processes()


def shipway(state: StateDirectory, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command on the server of a state directory."""
    return subprocess.run(
        [*SHIPWAY, *words, "--state", state.path],
        cwd=state.path.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )


@contextmanager
def running_server(
    folder: Path, *, model_store: Path | None = None, secure: bool = False, **settings: object
) -> Iterator[RunningServer]:
    """A server with the repository's config.properties, on free ports, `settings` changed."""
    path = write_config(folder, secure=secure, **settings)
    config = read_config(path)
    state = StateDirectory(folder / ".shipway")
    launched = launch.start(
        config,
        java=find_java(),
        model_store=model_store or folder / "model_store",
        state=state,
        dies_with_us=True,
        exporter_command=exporter_command,
    )
    try:
        with (
            closing(ManagementClient(state)) as management,
            closing(HttpPredictor(state)) as inference,
            closing(GrpcPredictor(state)) as grpc,
        ):
            yield RunningServer(
                record=launched.record,
                state=state,
                config=path,
                model_store=Path(launched.record.model_store),
                management=management,
                inference=inference,
                grpc=grpc,
                tokens=tokens_of(state, launched.record),
            )
    finally:
        launch.end(launched, state)
    assert not launched.record.processes()


def write_config(folder: Path, *, secure: bool = False, **settings: object) -> Path:
    """The repository's config.properties in `folder`, with free ports and `settings` changed;
    `secure`, with the addresses of a server that has TLS."""
    text = with_free_ports((REPOSITORY / "config.properties").read_text())
    if secure:
        text = re.sub(r"^(?!exporter)(\w+_address=http)://", r"\1s://", text, flags=re.MULTILINE)
    config = folder / "config.properties"
    config.write_text(with_settings(text, settings))
    return config


def is_worker(process: psutil.Process) -> bool:
    """Whether it runs TorchServe's worker; not so of one that ended meanwhile."""
    try:
        return any("model_service_worker" in word for word in process.cmdline())
    except psutil.Error:
        return False


def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Waits for something that another process does in its own time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def build_mar(folder: Path, name: str, version: str, handler: str) -> Path:
    """NAME-VERSION.mar with nothing in it but a handler, given as source."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"{name}_handler.py"
    source.write_text(handler)
    config = ModelArchiverConfig(
        model_name=name, version=version, handler=str(source), export_path=str(folder)
    )
    ModelArchiver.generate_model_archive(config)
    return Path(shutil.move(folder / f"{name}.mar", folder / f"{name}-{version}.mar"))
