"""Trials of settings, one after the other, on a server that nobody else uses."""

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
from shipway.loadtest.tune import Measure, MeasuredRate, Setting

WARM_UP_S = 1.0
FEWEST_REQUESTS = 300
"""How many requests a p99 needs at least: three of them are slower."""
LONGEST_S = 20.0
BUSY_CLIENTS, GUESSED_IN_S = 16, 3.0
GUESSED_SHARE = 0.7
"""Of the rate of a closed loop: the rate that the first search starts from."""
TRIES = 3
"""How often a load is measured if its p99 missed the target and its p90 did not. Five seconds have
only a few requests beyond p99, so a single pause of the machine can decide."""
PATIENCE = 10.0
"""Clients give up after this many times the target: the rate is too high in any case."""


class Trials:
    """Serves one setting at a time."""

    def __init__(
        self,
        state: StateDirectory,
        mar: Path,
        *,
        slo_p99_ms: float,
        seconds: float,
        observe: Callable[[str], None],
    ) -> None:
        """`mar` lies in the model store of the server of `state`. A load lasts for `seconds`, or
        longer if the rate is too low for a p99. `observe` is called with what is being done."""
        self._state = state
        self._mar = mar
        self._info = inspect_mar(mar)
        self._slo_ms = slo_p99_ms
        self._seconds = seconds
        self._observe = observe
        self._serving = ExitStack()
        self._served: Setting | None = None
        self._alone: float | None = None

    def guess(self, setting: Setting) -> float:
        """A rate to start from, in requests a second: most of what a closed loop reaches."""
        self.serve(setting)
        self._observe(f"{setting}: measuring its capacity …")
        closed = self._load_test(ClosedLoop(clients=BUSY_CLIENTS), GUESSED_IN_S)
        return max(1.0, GUESSED_SHARE * measure(closed).rate)

    def serve(self, setting: Setting) -> Measure:
        """Serves this setting instead of the last one; returns a function that measures a rate."""
        if setting != self._served:
            self._serve(setting)

        failed = False

        def load(rate: float) -> MeasuredRate:
            nonlocal failed
            # Lower rates are useless if even a single request takes longer than the target.
            if failed and (alone_ms := self._alone_ms(setting)) > self._slo_ms:
                because = f"a single request takes {alone_ms:.1f} ms"
                return MeasuredRate(rate=rate, p99_ms=alone_ms, kept=False, because=because)
            self._observe(f"{setting}: {rate:.0f} requests/s …")
            seconds = min(LONGEST_S, max(self._seconds, math.ceil(FEWEST_REQUESTS / rate)))
            load_test = self._load_test(OpenLoop(rate=rate), seconds)
            for _ in range(TRIES):
                result = measure(load_test)
                found = judged(result, rate, self._slo_ms)
                if found.kept or not result.latency or result.latency.p90_ms > self._slo_ms:
                    break
            failed = not found.kept
            return found

        return load

    def close(self) -> None:
        """Unregisters the setting that is served."""
        self._served = None
        self._serving.close()

    def _alone_ms(self, setting: Setting) -> float:
        """The median latency of a single client; infinite without an answer."""
        if self._alone is None:
            self._observe(f"{setting}: one request at a time …")
            found = measure(self._load_test(ClosedLoop(clients=1), GUESSED_IN_S)).latency
            self._alone = found.p50_ms if found else math.inf
        return self._alone

    def _serve(self, setting: Setting) -> None:
        self.close()
        self._observe(f"{setting}: starting its workers …")
        serving = Serving(
            batch_size=setting.batch_size,
            max_batch_delay_ms=setting.delay_ms,
            workers=setting.workers,
            threads=setting.threads,
        )
        # The workers read their number of threads from this file.
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

    def _load_test(self, load: ClosedLoop | OpenLoop, seconds: float) -> LoadTest:
        return LoadTest(
            target=self._ready.target,
            headers=dict(self._ready.headers),
            inputs=self._ready.inputs,
            load=load,
            warm_up_s=WARM_UP_S,
            seconds=seconds,
            timeout_s=max(1.0, PATIENCE * self._slo_ms / 1000),
        )


def judged(result: Result, rate: float, slo_p99_ms: float) -> MeasuredRate:
    """Whether a load kept the target: every request answered, 99% of them within it, and a
    generator that was not the bottleneck."""
    p99_ms = result.latency.p99_ms if result.latency else math.inf
    because = ""
    if result.failed:
        because = f"{result.failed} of {result.failed + result.answered} requests failed"
    elif p99_ms > slo_p99_ms:
        because = f"p99 was {p99_ms:.0f} ms"
    elif result.generator.was_bottleneck:
        because = f"the load generator was the bottleneck: {result.generator.because}"
    return MeasuredRate(rate=rate, p99_ms=p99_ms, kept=not because, because=because)
