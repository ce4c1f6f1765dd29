"""What it costs to see: a server with all metrics, timings and scrapes beside one without any.

The same archive twice, on two servers that are loaded in turns. One has the exporter, scraped as
often as deploy/prometheus has it, and the handler's own timings. The other has no exporter, and a
handler whose timing of stages and Server-Timing header are taken out. `make bench-observability`
"""

import argparse
import json
import statistics
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx

from benchmarks import servers
from benchmarks.inputs import jpegs
from benchmarks.variants import with_code
from handlers.archive import pack
from shipway.artifact.bundle import open_artifact
from shipway.runtime.host import available_cores, describe_host

IMAGES = Path("artifacts/efficientnet_lite0-1.0")
SCRAPE_EVERY_S = 10.0
BLIND = """
import handlers.service as _service

_service._stages = lambda asked, start: {}
_service.server_timing = lambda milliseconds: ""
"""


class Scraping(threading.Thread):
    """As much of Prometheus as a server notices."""

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
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    servers.end_with_us()
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        seeing = pack(open_artifact(IMAGES), folder / "seeing" / "store")
        blind = with_code(seeing, folder / "blind" / "store" / seeing.name, BLIND)
        served = {}
        for name, mar in (("seeing", seeing), ("blind", blind)):
            exporter = {} if name == "seeing" else {"exporter_address": ""}
            state = stack.enter_context(servers.our_server(folder / name, mar.parent, **exporter))
            served[name] = stack.enter_context(
                servers.registered(state, mar, workers=available_cores(), batch_size=8)
            )
            if address := state.require_running().addresses.exporter:
                scraping = Scraping(address)
                scraping.start()
                stack.callback(scraping.end)
        measured = [
            _compare(served, clients, given.rounds, given.seconds) for clients in given.clients
        ]
    record = {"host": describe_host().model_dump(), "measured": measured}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "observability.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({f"at_{each['clients']}_clients": each["cost"] for each in measured}))


def _compare(
    served: dict[str, servers.Served], clients: int, rounds: int, seconds: float
) -> dict[str, object]:
    """Both servers in turns; medians of the rounds' ratios and differences."""
    bodies = jpegs()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in served}
    for number in range(rounds):
        # The other one first each time: whatever drifts, drifts for both.
        for name in sorted(served, reverse=bool(number % 2)):
            result = servers.closed_loop(
                served[name],
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
            "throughput": round(1 - statistics.median(a[0] / b[0] for a, b in both), 4),
            "p50_ms": round(statistics.median(a[1] - b[1] for a, b in both), 3),
        },
    }


if __name__ == "__main__":
    main()
