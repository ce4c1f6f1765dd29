"""A client of TorchServe's management API: register, promote, scale, describe, unregister."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil

from shipway.engines.errors import (
    DefaultVersionInUse,
    ModelNotFound,
    Refused,
    Unreachable,
    VersionExists,
    VersionNotFound,
    WorkersFailed,
)
from shipway.engines.protocol import ModelVersion, natural_order
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.no_default import VERSION as NO_DEFAULT
from shipway.engines.torchserve.no_default import is_placeholder, write_placeholder
from shipway.engines.torchserve.refusals import management_refusal
from shipway.engines.torchserve.tokens import TokenAuth, tokens_of
from shipway.engines.torchserve.worker_log import WorkerLog

ANSWER_WITHIN_S = 30.0
# TorchServe gives a worker two minutes to boot and then its startup timeout to load the model.
WORKERS_READY_WITHIN_S = 900.0
ASK_AGAIN_S = 0.05
LOOK_AGAIN_S = 0.3
UNREGISTERED_WITHIN_S = 150.0  # `unregister_model_timeout` is 120 s


class ManagementClient:
    """A client of one server. Every method raises Unreachable if the server does not answer."""

    def __init__(self, state: StateDirectory) -> None:
        """The client of the server that runs from `state`; raises NoServer."""
        record = state.require_running()
        self._address = record.addresses.management
        self._worker_log = state.worker_log
        # The server is on this machine, whatever proxy the environment names.
        self._http = httpx.Client(
            base_url=self._address,
            auth=TokenAuth(tokens_of(state, record), "management"),
            timeout=ANSWER_WITHIN_S,
            verify=record.trust,
            trust_env=False,
        )

    def close(self) -> None:
        """Ends the connection."""
        self._http.close()

    def register(
        self,
        mar: str,
        *,
        name: str,
        version: str,
        batch_size: int,
        max_batch_delay_ms: int,
        workers: int,
    ) -> None:
        """Registers the archive `mar` of the model store; returns when its workers are ready.

        If they do not start, the version is unregistered again; other versions are not affected.
        `name` and `version` are those in the archive, for error messages.
        """
        log = WorkerLog(self._worker_log)
        answer = self._send(
            "POST",
            "/models",
            # In the query string: only there does TorchServe honour a delay of 0.
            params={
                "url": mar,
                "batch_size": batch_size,
                "max_batch_delay": max_batch_delay_ms,
                "initial_workers": workers,
                # Waited for here: TorchServe would wait in one of the few threads that read
                # requests, and leave every client of that thread without an answer meanwhile.
                "synchronous": "false",
            },
            timeout=WORKERS_READY_WITHIN_S,
        )
        if answer.is_success:
            try:
                self._await_workers(name, version, log, "The version is not registered")
            except BaseException:
                self.unregister(name, version)
                raise
            return
        refusal = management_refusal(answer)
        if refusal.type == "ConflictStatusException":
            raise refusal.retold(
                VersionExists,
                f"{name} {version} is already registered, and versions are immutable. Package the "
                "model under a new version, or unregister this one first: "
                f"`shipway unregister {name} {version}`.",
            )
        raise refusal.retold(Refused, f"TorchServe refused {mar}: {refusal}{_hint(refusal)}")

    def scale(self, name: str, version: str, workers: int) -> None:
        """Adds workers to a version until it has so many; returns when they are ready.

        If they do not start, it has those that it had.
        """
        [before] = [one for one in self.describe(name) if one.version == version]
        log = WorkerLog(self._worker_log)
        self._scale(name, version, workers)
        try:
            self._await_workers(name, version, log, f"It has {before.workers} of them, as before")
        except BaseException:
            self._scale(name, version, before.workers)
            raise

    def _scale(self, name: str, version: str, workers: int) -> None:
        path = f"/models/{quote(name)}/{quote(version)}"
        wanted = {"min_worker": workers, "max_worker": workers, "synchronous": "false"}
        self._change("PUT", path, name, version, params=wanted)

    def _await_workers(self, name: str, version: str, log: WorkerLog, otherwise: str) -> None:
        """Returns when all workers of a version are ready; raises WorkersFailed if one ended.

        TorchServe would start it again and again. `otherwise` is what is then done.
        """
        deadline = time.monotonic() + WORKERS_READY_WITHIN_S
        started: dict[str, int] = {}
        while True:
            [one] = [each for each in self._described(name) if each.version == version]
            if one.workers_ready >= one.workers:
                return
            for worker, pid in zip(one.worker_ids, one.worker_pids, strict=True):
                if pid > 0:
                    started.setdefault(worker, pid)
            ended = not all(map(psutil.pid_exists, started.values()))
            time.sleep(LOOK_AGAIN_S)
            if ended or time.monotonic() > deadline:
                reason = log.failure_reason(name, version)
                raise WorkersFailed(
                    f"The workers of {name} {version} did not start: "
                    f"{reason or 'no traceback was logged'}. {otherwise}. "
                    f"See {self._worker_log} for their complete output.",
                    code=500,
                    type="InternalServerException",
                )

    def promote(self, name: str, version: str) -> None:
        """Makes `version` the default, which answers requests that name no version."""
        self._change("PUT", f"/models/{quote(name)}/{quote(version)}/set-default", name, version)

    def unregister(self, name: str, version: str) -> None:
        """Ends the workers of a version. Its archive stays in the model store."""
        self._change("DELETE", f"/models/{quote(name)}/{quote(version)}", name, version)

    def placeholder(self, name: str) -> ModelVersion | None:
        """The version that stands for "no default version" in a model that has none."""
        versions = self._described(name)
        return next((one for one in versions if one.version == NO_DEFAULT), None)

    def add_placeholder(self, folder: Path, name: str, reason: str, *, workers: int) -> None:
        """Leaves a model without a default version, also one that has no versions yet.

        Requests that name no version then get 503, with `reason` if there are `workers`. A
        placeholder that is there already gets the new reason, and keeps the workers that it has.
        """
        write_placeholder(folder, name, reason)
        there = self.placeholder(name)
        if there is None:
            settings = {"batch_size": 1, "max_batch_delay": 0, "initial_workers": 0}
            answer = self._send("POST", "/models", params={"url": str(folder)} | settings)
            if answer.is_error:
                refusal = management_refusal(answer)
                raise refusal.retold(
                    Refused, f"TorchServe refused to leave {name} without a default: {refusal}"
                )
        if there is None or not there.default:
            self.promote(name, NO_DEFAULT)
        if workers > (there.workers if there else 0):
            log = WorkerLog(self._worker_log)
            self._scale(name, NO_DEFAULT, workers)
            try:
                self._await_workers(name, NO_DEFAULT, log, "")
            except WorkersFailed:
                self._scale(name, NO_DEFAULT, 0)  # so that TorchServe answers 503 by itself

    def remove_placeholder(self, name: str) -> None:
        """Removes the placeholder, which must not be the default beside other versions."""
        self.unregister(name, NO_DEFAULT)

    def await_answers(self, one: ModelVersion, *, within_s: float) -> bool:
        """Waits until this version has answered all requests so far. False if it takes longer.

        TorchServe does not report what its workers are doing. But a description waits for its turn
        in a worker, as a prediction does. When every worker has given one, all requests before
        are answered. Each description of a handler that does not name its process counts as
        another worker's.
        """
        path = f"/models/{quote(one.name)}/{quote(one.version)}"
        deadline = time.monotonic() + within_s
        answered: set[int] = set()
        while len(answered) < one.workers_ready:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            try:
                answer = self._send("GET", path, params={"customized": "true"}, timeout=left_s)
            except Unreachable as error:
                if isinstance(error.__cause__, httpx.TimeoutException):
                    return False
                raise
            process, unanswered = _process_of(answer, otherwise=-len(answered))
            full = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
            if full or unanswered or process in answered:
                time.sleep(ASK_AGAIN_S)  # the queue is full, or the others are busy
            else:
                answered.add(process)
        return True

    def names(self) -> list[str]:
        """The registered models, in order."""
        names: list[str] = []
        page: dict[str, str] = {}
        while True:
            answer = self._ask("/models", params={"limit": "100"} | page)
            for model in answer["models"]:
                name = model["modelName"]
                # It lists the default of each model.
                if not is_placeholder(model["modelUrl"]) or len(self._described(name)) > 1:
                    names.append(name)
            if "nextPageToken" not in answer:
                return sorted(names)
            page = {"next_page_token": answer["nextPageToken"]}

    def models(self) -> list[ModelVersion]:
        """Every version of every model."""
        versions = []
        for name in self.names():
            with suppress(ModelNotFound):  # it was unregistered meanwhile
                versions += self.describe(name)
        return versions

    def describe(self, name: str) -> list[ModelVersion]:
        """Every version of one model, oldest first; raises ModelNotFound.

        None of them is the default of a model without a default version.
        """
        described = [one for one in self._described(name) if one.version != NO_DEFAULT]
        if not described:
            raise self._not_found(name)
        return described

    def _described(self, name: str) -> list[ModelVersion]:
        """The versions of one model, the placeholder included; none if it is not registered."""
        try:
            [default] = self._ask(f"/models/{quote(name)}")
            versions = self._ask(f"/models/{quote(name)}/all")
        except Refused as refusal:
            if refusal.type == "ModelNotFoundException":
                return []
            raise
        described = [
            _model_version(version, default=version["modelVersion"] == default["modelVersion"])
            for version in versions
        ]
        return sorted(described, key=lambda one: natural_order(one.version))

    def what_runs(self, name: str, version: str) -> dict[str, Any]:
        """What a handler says of itself: program, digest, the v2 protocol's metadata and more.

        Empty for handlers that say nothing. A worker answers, so the call waits for its turn.
        """
        path = f"/models/{quote(name)}/{quote(version)}"
        try:
            [described] = self._ask(path, params={"customized": "true"})
        except Refused:
            return {}
        return dict(described.get("customizedMetadata") or {})

    def _change(
        self,
        method: str,
        path: str,
        name: str,
        version: str,
        *,
        params: dict[str, Any] | None = None,
    ) -> None:
        answer = self._send(method, path, params=params, timeout=UNREGISTERED_WITHIN_S)
        if answer.is_error:
            raise self._explained(management_refusal(answer), name, version)

    def _ask(self, path: str, params: dict[str, str] | None = None) -> Any:
        answer = self._send("GET", path, params=params)
        if answer.is_error:
            raise management_refusal(answer)
        return answer.json()

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        timeout: float = ANSWER_WITHIN_S,
    ) -> httpx.Response:
        try:
            return self._http.request(method, path, params=params, timeout=timeout)
        except httpx.TransportError as error:
            raise Unreachable(
                f"The server at {self._address} does not answer ({error}). See its logs in "
                f"{self._worker_log.parent}, or restart it with `shipway stop` and `shipway serve`."
            ) from error

    def _explained(self, refusal: Refused, name: str, version: str) -> Refused:
        if refusal.type == "ModelNotFoundException":
            return self._not_found(name)
        if refusal.type == "ModelVersionNotFoundException":
            registered = ", ".join(one.version for one in self.describe(name))
            return refusal.retold(
                VersionNotFound,
                f"{name} has no version {version}. Registered versions: {registered}.",
            )
        if refusal.type == "InvalidModelVersionException":
            others = [one.version for one in self.describe(name) if not one.default]
            command = f"`shipway promote {name} {others[-1]}`"
            return refusal.retold(
                DefaultVersionInUse,
                f"{version} is the default version of {name} and cannot be unregistered. Other "
                f"versions: {', '.join(others)}. Promote one of them first: {command}.",
            )
        return refusal

    def _not_found(self, name: str) -> ModelNotFound:
        registered = ", ".join(self.names()) or "none"
        return ModelNotFound(f"Model {name!r} is not registered. Registered models: {registered}.")


def _hint(refusal: Refused) -> str:
    """What TorchServe's own message does not say."""
    if "Failed to save model" in str(refusal):
        return (
            ". TorchServe could not unpack the archive. Check the free space in its temporary "
            "folder (TMPDIR of `shipway serve`)."
        )
    return ""


def _process_of(answer: httpx.Response, *, otherwise: int) -> tuple[int, int]:
    """The process of the worker that gave a description, if it says so, and how many requests it
    has that did not come through TorchServe."""
    try:
        said = answer.json()[0]["customizedMetadata"]
        return int(said["pid"]), int(said.get("unanswered", 0))
    except (ValueError, KeyError, TypeError, IndexError):
        return otherwise, 0


def _model_version(described: dict[str, Any], *, default: bool) -> ModelVersion:
    workers = described["workers"]
    queue = described["jobQueueStatus"]
    return ModelVersion(
        name=described["modelName"],
        version=described["modelVersion"],
        default=default,
        mar=described["modelUrl"],
        batch_size=described["batchSize"],
        max_batch_delay_ms=described["maxBatchDelay"],
        workers=described["minWorkers"],
        workers_ready=sum(worker["status"] == "READY" for worker in workers),
        worker_pids=tuple(worker["pid"] for worker in workers),
        worker_states=tuple(worker["status"] for worker in workers),
        worker_ids=tuple(worker["id"] for worker in workers),
        memory_bytes=sum(worker["memoryUsage"] for worker in workers),
        device=described["deviceType"],
        requests_waiting=queue["pendingRequests"],
        queue_limit=queue["pendingRequests"] + queue["remainingCapacity"],
        response_timeout_s=described["responseTimeout"],
        startup_timeout_s=described["startupTimeout"],
    )
