"""A server in this process's memory: it opens the artifact in an archive and runs it here.

It registers itself as an engine of another package would, without a file of the package touched.
"""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from shipway.artifact.bundle import open_artifact
from shipway.engines import ENGINES
from shipway.engines.errors import (
    DefaultVersionInUse,
    ModelNotFound,
    PredictionFailed,
    UnsupportedByEngine,
    VersionExists,
    VersionNotFound,
)
from shipway.engines.protocol import (
    Deployable,
    EngineMetrics,
    Inferred,
    ModelVersion,
    SignaturePolicy,
    natural_order,
)
from shipway.engines.state import LAUNCH_MARK, Addresses, ServerRecord, StateDirectory
from shipway.runtime.model import Model

NOWHERE = "http://127.0.0.1:9"
MEMORY: dict[str, dict[str, dict[str, tuple[Deployable, Model]]]] = {}
"""By server, model and version."""
DEFAULTS: dict[tuple[str, str], str] = {}
"""By server and model; none for a model without a default version."""
REASONS: dict[tuple[str, str], str] = {}
"""By server and model, why it has no default version."""


@ENGINES.register("toy")
class ToyEngine:
    """What a release needs of a server, and no more."""

    def __init__(self, state: StateDirectory) -> None:
        self._server = state.require_running().launch
        self._models = MEMORY.setdefault(self._server, {})
        self._folder = state.path / "unpacked"

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        if name is not None and name not in self._models:
            raise ModelNotFound(f"No model {name!r} is registered.")
        return [
            self._described(deployable)
            for model in ([name] if name else sorted(self._models))
            for _, (deployable, _) in sorted(
                self._models[model].items(), key=lambda item: natural_order(item[0])
            )
        ]

    def register(self, deployable: Deployable) -> None:
        versions = self._models.get(deployable.name, {})
        if deployable.version in versions:
            raise VersionExists(f"{deployable.name} {deployable.version} is registered already.")
        assert deployable.archive is not None
        folder = self._folder / deployable.archive.stem
        with zipfile.ZipFile(deployable.archive) as archive:
            archive.extractall(folder)
        model = Model(open_artifact(folder / "artifact"), threads=1, most_rows=1)
        model.warm_up()
        self._models.setdefault(deployable.name, {})[deployable.version] = deployable, model
        REASONS.setdefault((self._server, deployable.name), "It has none yet.")

    def scale(self, name: str, version: str, workers: int) -> None:
        raise UnsupportedByEngine("The toy engine", "has one worker a version", "Leave it so.")

    def set_default(self, name: str, version: str) -> None:
        self._find(name, version)
        DEFAULTS[self._server, name] = version

    def withhold_default(self, name: str, reason: str | None) -> None:
        if reason is not None:
            DEFAULTS.pop((self._server, name), None)
            REASONS[self._server, name] = reason
        elif name not in self._models:
            REASONS.pop((self._server, name), None)

    def unregister(self, name: str, version: str, *, drain_within_s: float = 0.0) -> bool:
        self._find(name, version)
        versions = self._models[name]
        if len(versions) > 1 and DEFAULTS.get((self._server, name)) == version:
            raise DefaultVersionInUse(f"{version} is the default version of {name}.")
        del versions[version]
        if not versions:
            del self._models[name]
            DEFAULTS.pop((self._server, name), None)
            REASONS.pop((self._server, name), None)
        return True  # nothing runs beside this call

    def infer(
        self, name: str, inputs: Mapping[str, np.ndarray], *, version: str | None = None
    ) -> Inferred:
        default = DEFAULTS.get((self._server, name))
        if not (version or default) and (reason := REASONS.get((self._server, name))):
            raise PredictionFailed(reason, code=503)
        model = self._find(name, version or str(default))
        names = [each.name for each in model.manifest.inputs]
        results = model.run(list(zip(*(inputs[each] for each in names), strict=True)))
        return Inferred(
            outputs={
                output.name: np.stack([each.outputs[place] for each in results])
                for place, output in enumerate(model.manifest.outputs)
            },
            program=model.program_name,
        )

    def describe(self, name: str, version: str) -> dict[str, Any]:
        return {"program": self._find(name, version).program_name}

    def metrics(self) -> EngineMetrics:
        return EngineMetrics()

    def why_unreachable(self) -> str | None:
        return None

    def signature_policy(self) -> SignaturePolicy:
        return SignaturePolicy()

    def close(self) -> None:
        pass

    def _find(self, name: str, version: str) -> Model:
        if name not in self._models:
            raise ModelNotFound(f"No model {name!r} is registered.")
        if version not in self._models[name]:
            raise VersionNotFound(f"{name} has no version {version}.")
        return self._models[name][version][1]

    def _described(self, deployable: Deployable) -> ModelVersion:
        assert deployable.archive is not None
        return ModelVersion(
            name=deployable.name,
            version=deployable.version,
            default=DEFAULTS.get((self._server, deployable.name)) == deployable.version,
            mar=deployable.archive.name,
            batch_size=deployable.batch_size,
            max_batch_delay_ms=deployable.max_batch_delay_ms,
            workers=1,
            workers_ready=1,
            worker_pids=(os.getpid(),),
            worker_states=("READY",),
            worker_ids=("0",),
            memory_bytes=0,
            device="cpu",
            requests_waiting=0,
            queue_limit=1,
            response_timeout_s=1,
            startup_timeout_s=1,
        )


@contextmanager
def toy_server(state: StateDirectory, store: Path, launch: str) -> Iterator[None]:
    """A record of a toy server, and a process that is there for as long as the block."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
        env=os.environ | {LAUNCH_MARK: launch},
    ) as process:
        record = ServerRecord(
            pid=process.pid,
            launch=launch,
            addresses=Addresses(
                inference=NOWHERE,
                management=NOWHERE,
                metrics=NOWHERE,
                grpc_inference="127.0.0.1:9",
                grpc_management="127.0.0.1:9",
                exporter=None,
            ),
            max_request_bytes=1,
            metrics_directory=str(state.path),
            config="",
            model_store=str(store),
            started="2026-01-01T00:00:00+00:00",
            engine="toy",
        )
        assert state.write(record)
        try:
            yield
        finally:
            state.record_file.unlink()
            process.communicate(b"\n")
