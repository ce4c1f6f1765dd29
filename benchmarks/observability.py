"""What metrics, timings and scrapes cost: requests with and without them, in turns.

A request with a certain header is answered without timing its stages and without recording it. One
client sends both kinds in turns, request by request; many clients send each kind for some seconds.
The workers are the same for both, because two workers with the same code differ by more than what
is measured. The exporter runs all the time and is scraped as often as in deploy/prometheus; its
processor time is counted as a share of all cores. The last line is JSON.
`make bench-observability`
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.study import RESULTS, Outcome, at_most, closed_loop, exit_on_sigterm, finish
from benchmarks.variants import with_code
from shipway.archive.pack import pack
from shipway.artifact.bundle import open_artifact
from shipway.engines.torchserve.temporary import ServedModel, registered, temporary_server
from shipway.files import atomic_write
from shipway.releases.exporter_process import exporter_command
from shipway.runtime.host import available_cores, describe_host
from shipway.tasks.demo_inputs import jpegs

IMAGES = Path("artifacts/efficientnet_lite0-1.0")
SCRAPE_EVERY_S = 10.0
WARM_UP_PAIRS = 100
BLOCK_PAIRS = 200
HEADERS: dict[str, dict[str, str]] = {"seeing": {}, "blind": {"X-Blind": "1"}}
"""The headers that turn recording on or off for a request."""
BLINDLY = """
import shipway.serving.service as _service

_seeing = _service.Service.answer
_eyes = _service._stages, _service.server_timing


def _answer(self, requests):
    if "x-blind" not in requests[0].headers:
        return _seeing(self, requests)
    observers, self._observers = self._observers, ()
    _service._stages, _service.server_timing = lambda asked, start: {}, lambda milliseconds: ""
    try:
        return _seeing(self, requests)
    finally:
        self._observers = observers
        _service._stages, _service.server_timing = _eyes


_service.Service.answer = _answer
"""


class Scraping(threading.Thread):
    """Scrapes the exporter as Prometheus does."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._over = threading.Event()

    def run(self) -> None:
        with httpx.Client(trust_env=False) as client:
            while not self._over.wait(SCRAPE_EVERY_S):
                client.get(f"{self._address}/metrics").raise_for_status()

    def end(self) -> None:
        self._over.set()
        self.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=5000, help="of a lone client, to each")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    exit_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        original = pack(open_artifact(IMAGES), folder / "original")
        mar = with_code(original, folder / "store" / original.name, BLINDLY)
        state = stack.enter_context(
            temporary_server(folder, mar.parent, exporter_command=exporter_command)
        )
        served = stack.enter_context(
            registered(state, mar, workers=available_cores(), batch_size=8)
        )
        assert served.exporter
        scraping = Scraping(served.exporter)
        scraping.start()
        stack.callback(scraping.end)
        exporter = _exporter_of(served)
        before, begun = _cpu_s(exporter), time.monotonic()
        alone = _alone(served, given.requests)
        many = _many(served, given.clients, given.rounds, given.seconds)
        share = (_cpu_s(exporter) - before) / (time.monotonic() - begun) / available_cores()
    record = {
        "host": describe_host().model_dump(),
        "alone": alone,
        "many": many,
        "exporters_share_of_all_cores": round(share, 4),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    atomic_write(given.out / "observability.json", json.dumps(record, indent=1) + "\n")
    finish(outcomes(alone["cost"], many["cost"], share))


def outcomes(
    one_client: Mapping[str, Any], many_clients: Mapping[str, Any], exporter_share: float
) -> dict[str, Outcome]:
    """The targets: shares of the throughput, milliseconds at the median, a share of all cores."""
    return {
        "throughput_lost_at_1_client": at_most(one_client["throughput"], 0.01),
        "p50_ms_added_at_1_client": at_most(one_client["p50_ms"], 0.1),
        "throughput_lost_at_many_clients": at_most(many_clients["throughput"], 0.01),
        "exporters_share_of_all_cores": at_most(round(exporter_share, 4), 0.01),
    }


def _exporter_of(served: ServedModel) -> psutil.Process:
    """The one that listens where the exporter answers."""
    assert served.exporter
    port = urlsplit(served.exporter).port
    [pid] = {
        each.pid
        for each in psutil.net_connections("tcp")
        if each.laddr and each.laddr.port == port and each.status == psutil.CONN_LISTEN
    }
    return psutil.Process(pid)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _alone(served: ServedModel, requests: int) -> dict[str, Any]:
    """What a lone client waits with and without, in blocks of pairs; medians over the blocks."""
    bodies = jpegs()
    blocks: list[dict[str, list[float]]] = []
    headers = {**served.headers, "Content-Type": "image/jpeg"}
    with httpx.Client(headers=headers, trust_env=False) as client:
        for number in range(-WARM_UP_PAIRS, requests):
            if number >= 0 and number % BLOCK_PAIRS == 0:
                blocks.append({name: [] for name in HEADERS})
                print(f"1 client  {number} of {requests} pairs", flush=True)
            body = bodies[number % len(bodies)]
            # The other one first each time, so that neither always follows the same one.
            for name in sorted(HEADERS, reverse=bool(number % 2)):
                start = time.perf_counter()
                answer = client.post(served.url, content=body, headers=HEADERS[name])
                took_ms = 1000 * (time.perf_counter() - start)
                answer.raise_for_status()
                if number >= 0:
                    blocks[-1][name].append(took_ms)
    slower_ms = [
        statistics.median(each["seeing"]) - statistics.median(each["blind"]) for each in blocks
    ]
    lost = [1 - sum(each["blind"]) / sum(each["seeing"]) for each in blocks]
    return {
        "pairs": requests,
        "p50_ms": {
            name: round(statistics.median(chain.from_iterable(each[name] for each in blocks)), 3)
            for name in HEADERS
        },
        "cost": {
            "throughput": round(statistics.median(lost), 4),
            "throughput_quartiles": _quartiles(lost, 4),
            "p50_ms": round(statistics.median(slower_ms), 3),
            "p50_ms_quartiles": _quartiles(slower_ms, 3),
        },
    }


def _quartiles(numbers: list[float], digits: int) -> list[float]:
    """The first and the third."""
    first, _, third = statistics.quantiles(numbers)
    return [round(first, digits), round(third, digits)]


def _many(served: ServedModel, clients: int, rounds: int, seconds: float) -> dict[str, Any]:
    """With and without in turns; medians of the rounds' ratios and differences."""
    bodies = jpegs()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in HEADERS}
    for number in range(rounds):
        # The other one first each time: whatever drifts, drifts for both.
        for name in sorted(HEADERS, reverse=bool(number % 2)):
            result = closed_loop(
                replace(served, headers={**served.headers, **HEADERS[name]}),
                bodies,
                clients,
                seconds,
                content_type="image/jpeg",
                warm_up_s=1.0,
            )
            assert result.latency and not result.failed, result.errors
            found[name].append((result.rate, result.latency.p50_ms))
            rate, p50_ms = found[name][-1]
            print(
                f"{clients:2} clients  {name:6}  {rate:6.1f} a second  p50 {p50_ms:.2f} ms",
                flush=True,
            )
    both = list(zip(found["seeing"], found["blind"], strict=True))
    lost = [1 - seeing / blind for (seeing, _), (blind, _) in both]
    slower_ms = [seeing - blind for (_, seeing), (_, blind) in both]
    return {
        "clients": clients,
        "rounds": [
            {
                name: {"rate": round(rate, 2), "p50_ms": round(p50_ms, 3)}
                for name, (rate, p50_ms) in zip(("seeing", "blind"), pair, strict=True)
            }
            for pair in both
        ],
        "cost": {
            "throughput": round(statistics.median(lost), 4),
            "throughput_quartiles": _quartiles(lost, 4),
            "p50_ms": round(statistics.median(slower_ms), 3),
            "p50_ms_quartiles": _quartiles(slower_ms, 3),
        },
    }


if __name__ == "__main__":
    main()
