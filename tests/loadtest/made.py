"""Results without a load, for what is made of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.loadtest.load_test import Input, LoadTest, Target
from shipway.loadtest.preflight import Subject
from shipway.loadtest.report import Report, new_report
from shipway.loadtest.result import Collector, Result
from shipway.loadtest.shapes.base import LoadShape
from shipway.loadtest.shapes.open import OpenLoop
from shipway.loadtest.ticks import Tick

SECONDS = 4
BODY = Input(name="a photo", content_type="image/jpeg", body=b"12345")


def result_of(
    load: LoadShape,
    latencies_ms: Sequence[float] | np.ndarray,
    *,
    errors: Mapping[tuple[str, str, str, str], int] | None = None,
    busy: float = 0.3,
    last: bool = True,
) -> Result:
    """Requests evenly over some seconds, each with its latency; sent at once when intended."""
    plan = LoadTest(
        target=Target(url="http://127.0.0.1:1/predictions/m"),
        inputs=(BODY,),
        load=load,
        warm_up_s=1.0,
        seconds=SECONDS,
    )
    collector = Collector(plan)
    starts = np.linspace(0, SECONDS, len(latencies_ms), endpoint=False)
    for second in range(SECONDS):
        collector.add(
            Tick(
                at=second + 1.0,
                answers=[
                    (float(start), round(1000 * ms), round(1000 * ms), None)
                    for start, ms in zip(starts, latencies_ms, strict=True)
                    if int(start) == second
                ],
                errors=[(second, *which, count) for which, count in (errors or {}).items()],
                cpu=busy / 2,
                busy=busy,
                lags_us=[100] * 100,
                clients=1,
                waiting=0,
                last=last and second == SECONDS - 1,
            )
        )
    return collector.result()


def lognormal_ms(median_ms: float, count: int = 800, spread: float = 0.5) -> np.ndarray:
    return np.random.default_rng(0).lognormal(np.log(median_ms), spread, count)


def rates(p50s_ms: Mapping[float, float]) -> list[Result]:
    """Open loops by rate, with a median each."""
    return [
        result_of(OpenLoop(rate=rate), lognormal_ms(p50_ms, count=int(SECONDS * rate)))
        for rate, p50_ms in p50s_ms.items()
    ]


def report_of(results: Sequence[Result], partial: str = "", **subject: object) -> Report:
    told: dict[str, Any] = {
        "url": "http://127.0.0.1:1/predictions/m",
        "model": "m",
        "version": "1.0",
    } | subject
    return new_report(Subject(**told), (BODY,), 30.0, results, partial)
