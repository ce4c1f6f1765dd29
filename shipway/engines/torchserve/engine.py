"""TorchServe as an Engine."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.engines import ENGINES
from shipway.engines.errors import ModelNotFound, Refused, Unreachable, UnsupportedByEngine
from shipway.engines.protocol import (
    Deployable,
    EngineMetrics,
    Inferred,
    ModelVersion,
    SignaturePolicy,
)
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.config import read_config
from shipway.engines.torchserve.inference import HttpPredictor
from shipway.engines.torchserve.management import ManagementClient
from shipway.engines.torchserve.metrics import MetricsClient
from shipway.engines.torchserve.no_default import NOT_YET, placeholder_folder
from shipway.front.envoy import Admin
from shipway.front.exchange import FOLDER, Exchange
from shipway.front.resources import admin_socket

if TYPE_CHECKING:
    import numpy as np

PLACEHOLDER_ANSWERS_WITHIN_S = 5.0
"""How long the placeholder of a model without a default may take to answer what it was sent."""


@ENGINES.register("torchserve")
class TorchServeEngine:
    """The TorchServe that runs from a state directory. See `Engine` for its methods."""

    def __init__(self, state: StateDirectory) -> None:
        """Raises NoServer."""
        record = state.require_running()
        self._temporary = Path(record.launch)
        self._front = Exchange(self._temporary / FOLDER)
        self._admin = Admin(admin_socket(self._temporary / FOLDER))
        self._front_log = state.front_log
        self._config = Path(record.config)
        self._management = ManagementClient(state)
        self._predictor = HttpPredictor(state)
        self._metrics = MetricsClient(record)

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """See `Engine`."""
        management = self._management
        try:
            versions = management.models() if name is None else management.describe(name)
        except (ValueError, LookupError) as error:
            # It starts, it ends, or a version went away between two questions.
            raise Unreachable(
                f"TorchServe returned an incomplete description of its models: {error!r}. Try "
                "again, or see its logs."
            ) from error
        failing = self._front.read_served().failing
        unanswered = self._admin.unanswered()  # those in TorchServe are another's
        return [
            replace(
                one,
                out_of_service=(one.name, one.version) in failing,
                requests_waiting=(one.requests_waiting or 0)
                + unanswered.get((one.name, one.version), 0),
            )
            for one in versions
        ]

    def register(self, deployable: Deployable) -> None:
        """See `Engine`. TorchServe takes archives from its model store alone.

        It would make a model's first version the default, so a placeholder comes before that one.
        """
        if deployable.archive is None:
            raise UnsupportedByEngine(
                "TorchServe",
                f"serves archives, but {deployable.name} {deployable.version} has no archive",
                "Create one with `shipway package ARTIFACT`.",
            )
        if not self._is_known(deployable.name):
            self._add_placeholder(deployable.name, NOT_YET.format(name=deployable.name), workers=0)
        try:
            self._management.register(
                deployable.archive.name,
                name=deployable.name,
                version=deployable.version,
                batch_size=deployable.batch_size,
                max_batch_delay_ms=deployable.max_batch_delay_ms,
                workers=deployable.workers,
            )
        except Refused:
            # If TorchServe could not unpack an archive to its end, it leaves the part that it has,
            # so a full disk would stay full.
            for folder in self._temporary.glob("models*.download"):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._tidy(deployable.name, only_unstarted=True)

    def scale(self, name: str, version: str, workers: int) -> None:
        """See `Engine`."""
        self._management.scale(name, version, workers)

    def set_default(self, name: str, version: str) -> None:
        """See `Engine`."""
        self._management.promote(name, version)
        self._front.await_default(name, version)
        self._tidy(name)

    def withhold_default(self, name: str, reason: str | None) -> None:
        """See `Engine`. A worker of the placeholder gives the reason."""
        if reason is None:
            self._tidy(name)
        else:
            self._add_placeholder(name, reason, workers=1)

    def unregister(self, name: str, version: str, *, drain_within_s: float = 0.0) -> bool:
        """See `Engine`. TorchServe itself would leave requests that wait without an answer."""
        versions = self._management.describe(name)
        with self._front.withdraw(name, version):
            return self._unregister(name, version, versions, drain_within_s)

    def _unregister(
        self, name: str, version: str, versions: list[ModelVersion], drain_within_s: float
    ) -> bool:
        drained = True
        if drain_within_s > 0:
            for one in versions:
                # TorchServe refuses to remove a default beside others, so it is not drained.
                if one.version == version and not (one.default and len(versions) > 1):
                    drained = self._management.await_answers(one, within_s=drain_within_s)
        # Beside the placeholder of a model whose default was set by others, TorchServe would refuse
        # to remove its last version.
        self._tidy(name)
        self._management.unregister(name, version)
        self._tidy(name)
        return drained

    def infer(
        self, name: str, inputs: "Mapping[str, np.ndarray]", *, version: str | None = None
    ) -> Inferred:
        """See `Engine`."""
        return self._predictor.infer(name, inputs, version=version)

    def describe(self, name: str, version: str) -> dict[str, Any]:
        """See `Engine`. A worker answers, in its turn."""
        return self._management.what_runs(name, version)

    def metrics(self) -> EngineMetrics:
        """See `Engine`."""
        responses = self._admin.responses()
        return replace(self._metrics.read(), workers_queue=self._front.exists, responses=responses)

    def why_unreachable(self) -> str | None:
        """See `Engine`. Its management API answers without the front."""
        if not self._front.exists or self._admin.is_ready():
            return None
        return f"its front takes no requests; {self._front_log} says why"

    def signature_policy(self) -> SignaturePolicy:
        """See `Engine`. Read anew each time: config.properties may have changed since the start."""
        config = read_config(self._config)
        return SignaturePolicy(required=config.require_signature, trusted_keys=config.trusted_keys)

    def _is_known(self, name: str) -> bool:
        with suppress(ModelNotFound):
            return bool(self._management.describe(name))
        return self._management.placeholder(name) is not None

    def _add_placeholder(self, name: str, reason: str, *, workers: int) -> None:
        folder = placeholder_folder(self._temporary, name)
        self._management.add_placeholder(folder, name, reason, workers=workers)

    def _tidy(self, name: str, *, only_unstarted: bool = False) -> None:
        """Removes a placeholder beside a default version, or in a model without versions.

        With `only_unstarted`, one that gives a reason is left.
        """
        there = self._management.placeholder(name)
        if there is None or (only_unstarted and there.workers):
            return
        with suppress(ModelNotFound):
            if there.default and self._management.describe(name):
                return
        self._management.await_answers(there, within_s=PLACEHOLDER_ANSWERS_WITHIN_S)
        self._management.remove_placeholder(name)

    def close(self) -> None:
        """See `Engine`."""
        self._management.close()
        self._predictor.close()
        self._metrics.close()
