"""Settings tried one after the other, on a server that nobody else uses."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from shipway.archive.inspect import inspect_mar
from shipway.artifact.manifest import Serving
from shipway.artifact.tuned import Tuned, write_tuned
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.temporary import registered
from shipway.loadtest import preflight
from shipway.loadtest.load_test import LoadTest
from shipway.loadtest.result import Result
from shipway.loadtest.runner import measure
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from shipway.loadtest.tune import At, Load, Setting

WARM_UP_S = 1.0
FEWEST_REQUESTS = 300
"""Behind a p99: three of them are beyond it."""
LONGEST_S = 20.0
BUSY_CLIENTS, GUESSED_IN_S = 16, 3.0
MOST = 0.7
TRIES = 3
"""Of a load whose p99 missed the target and whose p90 did not. Five seconds have a handful of
requests beyond p99, so one pause of the machine, which is no setting's fault, decides."""
PATIENCE = 10.0
"""Clients give up after so many times the target: the rate was too high anyway."""


class Trials:
    """Serves one setting at a time."""

    def __init__(
        self,
        state: StateDirectory,
        mar: Path,
        *,
        slo_p99_ms: float,
        seconds: float,
        watch: Callable[[str], None],
    ) -> None:
        """`mar` lies in the model store of the server of `state`. A load lasts for `seconds`, or
        longer at rates too low for a p99. `watch` is told what is being done."""
        self._state = state
        self._mar = mar
        self._info = inspect_mar(mar)
        self._slo_ms = slo_p99_ms
        self._seconds = seconds
        self._watch = watch
        self._serving = ExitStack()
        self._served: Setting | None = None
        self._alone: float | None = None

    def guess(self, setting: Setting) -> float:
        """A rate to begin with: most of what this setting answers when clients just ask on."""
        self.serve(setting)
        self._watch(f"{setting}: what it can do at all …")
        closed = self._plan(ClosedLoop(clients=BUSY_CLIENTS), GUESSED_IN_S)
        return max(1.0, MOST * measure(closed).rate)

    def serve(self, setting: Setting) -> Load:
        """Takes the last setting out of service and serves this one."""
        if setting != self._served:
            self._serve(setting)

        failed = False

        def load(rate: float) -> At:
            nonlocal failed
            # Rates are lowered once one was too high, for nothing where no rate is low enough.
            if failed and (alone_ms := self._alone_ms(setting)) > self._slo_ms:
                said = f"a request alone takes {alone_ms:.1f} ms"
                return At(rate=rate, p99_ms=alone_ms, kept=False, because=said)
            self._watch(f"{setting}: {rate:.0f} requests a second …")
            seconds = min(LONGEST_S, max(self._seconds, math.ceil(FEWEST_REQUESTS / rate)))
            plan = self._plan(OpenLoop(rate=rate), seconds)
            for _ in range(TRIES):
                result = measure(plan)
                found = judged(result, rate, self._slo_ms)
                if found.kept or not result.latency or result.latency.p90_ms > self._slo_ms:
                    break
            failed = not found.kept
            return found

        return load

    def close(self) -> None:
        """Takes out of service what is."""
        self._served = None
        self._serving.close()

    def _alone_ms(self, setting: Setting) -> float:
        """The median of one client's requests."""
        if self._alone is None:
            self._watch(f"{setting}: one request at a time …")
            found = measure(self._plan(ClosedLoop(clients=1), GUESSED_IN_S)).latency
            self._alone = found.p50_ms if found else math.inf
        return self._alone

    def _serve(self, setting: Setting) -> None:
        self.close()
        self._watch(f"{setting}: starting its workers …")
        serving = Serving(
            batch_size=setting.batch_size,
            max_batch_delay_ms=setting.delay_ms,
            workers=setting.workers,
            threads=setting.threads,
        )
        # Where its workers look for their threads.
        write_tuned(self._mar.parent, self._info.name, self._info.version, Tuned(serving=serving))
        self._serving.enter_context(
            registered(
                self._state,
                self._mar,
                workers=setting.workers,
                batch_size=setting.batch_size,
                delay_ms=setting.delay_ms,
            )
        )
        self._ready = preflight.local_model(
            self._state, self._info.name, None, grpc=False, headers={}
        )
        self._served, self._alone = setting, None

    def _plan(self, load: ClosedLoop | OpenLoop, seconds: float) -> LoadTest:
        return LoadTest(
            target=self._ready.target,
            headers=dict(self._ready.headers),
            inputs=self._ready.inputs,
            load=load,
            warm_up_s=WARM_UP_S,
            seconds=seconds,
            timeout_s=max(1.0, PATIENCE * self._slo_ms / 1000),
        )


def judged(result: Result, rate: float, slo_p99_ms: float) -> At:
    """Whether a load kept the target: every request answered, 99% of them in time, by a generator
    that could be believed."""
    p99_ms = result.latency.p99_ms if result.latency else math.inf
    because = ""
    if result.failed:
        because = f"{result.failed} of {result.failed + result.answered} requests failed"
    elif p99_ms > slo_p99_ms:
        because = f"p99 was {p99_ms:.0f} ms"
    elif result.generator.was_bottleneck:
        because = f"the load generator could do no more: {result.generator.because}"
    return At(rate=rate, p99_ms=p99_ms, kept=not because, because=because)
