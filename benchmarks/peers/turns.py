"""One server at a time, in turns: started, checked, measured, ended."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.peers import process, table
from benchmarks.peers.errors import PeerFailed
from benchmarks.peers.systems import Comparison, Setting, System, Turn
from benchmarks.peers.table import MANY, ONE, Sample, Visit
from benchmarks.study import closed_loop
from shipway.artifact.bundle import Artifact
from shipway.engines.torchserve.temporary import ServedModel
from shipway.errors import ShipwayError
from shipway.runtime.host import available_cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    artifact: Artifact
    photos: Sequence[bytes]
    expected: Sequence[int]
    """The class that each photo is."""
    folder: Path
    """Room for what the servers write."""
    seconds: float
    """Of each load."""
    warm_up_s: float = 3.0
    console: Console

    def compare(
        self, comparison: Comparison, systems: Sequence[System], *, rounds: int
    ) -> list[dict[str, Any]]:
        """A row for each system, of all rounds. One that failed is not tried again."""
        visits: dict[str, dict[Setting | None, list[Visit]]] = {}
        failures: dict[str, str] = {}
        for _ in range(rounds):
            for system in systems:
                for setting in settings(comparison):
                    if system.key in failures:
                        continue
                    try:
                        visit = self.visit(system, comparison, setting)
                    except PeerFailed as failed:
                        failures[system.key] = str(failed)
                        self.console.print(f"{system.name} failed: {failed}", markup=False)
                        continue
                    visits.setdefault(system.key, {}).setdefault(setting, []).append(visit)
        return table.rows(systems, visits, failures)

    def visit(self, system: System, comparison: Comparison, setting: Setting | None) -> Visit:
        """Starts a server, checks its answers, measures it. Raises PeerFailed, saying why."""
        turn = Turn(
            comparison=comparison,
            artifact=self.artifact,
            folder=Path(tempfile.mkdtemp(dir=self.folder)),
            setting=setting,
        )
        wire = system.wire[comparison]
        bodies = [wire.body(photo) for photo in self.photos]
        named = f"{system.name}, {setting}" if setting else system.name
        try:
            with self.console.status(f"{named}: starting"), system.start(turn) as served:
                headers = {**wire.headers, **served.headers}
                process.check_answers(served, bodies, headers, wire.top_class, self.expected)
                samples = {}
                for clients in (ONE, MANY):
                    samples[clients] = self._sample(served, bodies, headers, clients)
                    self._say(named, clients, samples[clients])
                return Visit(samples=samples, memory_mb=served.memory_mb())
        except (RuntimeError, ShipwayError) as error:
            raise PeerFailed(process.tail(str(error))) from error

    def _sample(
        self, served: ServedModel, bodies: list[bytes], headers: Mapping[str, str], clients: int
    ) -> Sample:
        headers = dict(headers)
        content_type = headers.pop("content-type")
        result = closed_loop(
            replace(served, headers=headers),
            bodies,
            clients,
            self.seconds,
            content_type=content_type,
            warm_up_s=self.warm_up_s,
        )
        if result.latency is None:
            errors = "; ".join(f"{each.count} × {each}" for each in result.errors)
            raise PeerFailed(
                f"no answer in {result.seconds:.0f} s under {clients} clients: {errors}"
            )
        return Sample(
            rate=result.rate,
            p50_ms=result.latency.p50_ms,
            p99_ms=result.latency.p99_ms,
            errors=result.failed,
        )

    def _say(self, named: str, clients: int, sample: Sample) -> None:
        self.console.print(
            f"{named}, {clients} client{'s' if clients > 1 else ''}: {sample.rate:.1f} a second, "
            f"p50 {sample.p50_ms:.2f} ms, p99 {sample.p99_ms:.2f} ms, errors {sample.errors}"
        )


def settings(comparison: Comparison) -> Iterator[Setting | None]:
    """The ways to share the cores that a system may choose from."""
    if comparison == "as_documented":
        yield None
        return
    cores = available_cores()
    for workers in sorted({1, cores}):
        yield Setting(workers=workers, threads=cores // workers)
