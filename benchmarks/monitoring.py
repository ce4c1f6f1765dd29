"""Checks the dashboard and the alerts of deploy/ with a real Prometheus and a server under load.

    python -m benchmarks.monitoring [--artifact ARTIFACT] [--seconds 120]

Every query of the dashboard must return numbers, every rule must be evaluated, and no alert may
fire. Then a worker is killed, and only ShipwayWorkerRestarted must fire. The last line is JSON.
"""

import argparse
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console

from benchmarks.stock import IMAGES
from benchmarks.study import exit_on_sigterm
from shipway.archive.pack import pack
from shipway.artifact.bundle import open_artifact
from shipway.engines.ports import free_ports
from shipway.engines.torchserve.temporary import ServedModel, served_model
from shipway.releases.exporter_process import exporter_command
from shipway.tasks.demo_inputs import jpegs

REPOSITORY = Path(__file__).parent.parent
CONFIG = REPOSITORY / "deploy/prometheus/prometheus.yml"
DASHBOARD = REPOSITORY / "deploy/grafana/shipway.json"
FETCH = REPOSITORY / "scripts/fetch-prometheus"

KILLED_WORKER = "ShipwayWorkerRestarted"
"""The alert that a killed worker fires, alone."""
FIRES_WITHIN_S = 60.0
NEEDS_GPU = "shipway_gpu_"
"""Metrics that a machine without a GPU does not have."""

BROKEN = b"no image at all"
BROKEN_EVERY = 10
STARTED_EVERY = 2
"""Of how many requests one says when it was sent."""

console = Console(highlight=False, soft_wrap=True)


class Prometheus:
    """A client of a Prometheus server's API."""

    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=f"{address}/api/v1", timeout=30, trust_env=False)

    def get(self, path: str, **parameters: str | float) -> Any:
        """The data of an answer; raises ValueError with Prometheus' own words."""
        answer = self._http.get(path, params=parameters).json()
        if answer["status"] != "success":
            raise ValueError(f"{path} {parameters}: {answer['error']}")
        return answer["data"]

    def query(self, expr: str) -> dict[str, float]:
        """The value of each series now, by its labels; those that are no number are left out."""
        found = {
            json.dumps(each["metric"], sort_keys=True): float(each["value"][1])
            for each in self.get("/query", query=expr)["result"]
        }
        return {labels: value for labels, value in found.items() if not math.isnan(value)}

    def rules(self) -> list[dict[str, Any]]:
        """Recording and alerting rules, with their health."""
        return [rule for group in self.get("/rules")["groups"] for rule in group["rules"]]

    def firing(self) -> dict[str, dict[str, Any]]:
        """Each alert that fires, by its name."""
        alerts = self.get("/alerts")["alerts"]
        return {each["labels"]["alertname"]: each for each in alerts if each["state"] == "firing"}

    def close(self) -> None:
        self._http.close()


def tools() -> Path:
    """The folder of prometheus and promtool, fetched if need be."""
    found = subprocess.run([FETCH], stdout=subprocess.PIPE, text=True, check=True)
    return Path(found.stdout.strip())


@contextmanager
def scraping(exporter: str, folder: Path, *, interval: str | None = None) -> Iterator[Prometheus]:
    """A Prometheus as deploy/ configures it, on a free port, its data in `folder`.

    `exporter` is what it scrapes, http://HOST:PORT, and `interval` how often, if not as configured.
    """
    [port] = free_ports(1)
    config = folder / "prometheus.yml"
    config.write_text(_configured(exporter.removeprefix("http://"), interval))
    process = subprocess.Popen(
        [str(tools() / "prometheus"), f"--config.file={config}", "--log.level=warn"]
        + [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
        + ["--enable-feature=exemplar-storage"],
    )
    address = f"http://127.0.0.1:{port}"
    prometheus = Prometheus(address)
    try:
        _await_ready(process, f"{address}/-/ready")
        yield prometheus
    finally:
        prometheus.close()
        process.terminate()
        process.wait(30)


def _configured(target: str, interval: str | None) -> str:
    config = yaml.safe_load(CONFIG.read_text())
    config["rule_files"] = [str(CONFIG.parent / name) for name in config["rule_files"]]
    [job] = config["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    if interval:
        config["global"] = {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        }
    return yaml.safe_dump(config)


def _await_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False).is_success:
                return
        time.sleep(0.1)
    raise RuntimeError("Prometheus did not start; what it said stands above.")


def dashboard_queries(over: str) -> dict[str, str]:
    """Every query of the dashboard by its panel and legend, with all models and versions picked.

    `over` is what stands for $__rate_interval.
    """
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {
        f"{panel['title']} / {target['legendFormat'] or target['refId']}": target["expr"]
        .replace("$__rate_interval", over)
        .replace("$model", ".+")
        .replace("$version", ".+")
        for panel in panels
        for target in panel.get("targets", [])
    }


@contextmanager
def traffic(
    urls: Sequence[str],
    bodies: Sequence[bytes],
    headers: Mapping[str, str],
    *,
    clients: int = 2,
    pause_s: float = 0.1,
) -> Iterator[None]:
    """Requests from `clients` threads while it lasts: good ones, broken ones, some with the time at
    which they were sent."""
    over = threading.Event()

    def send(client: httpx.Client) -> None:
        for turn in itertools.count():
            if over.wait(pause_s):
                return
            body = BROKEN if turn % BROKEN_EVERY == 0 else bodies[turn % len(bodies)]
            sent = {"content-type": "application/octet-stream", **headers}
            if turn % STARTED_EVERY == 0:
                sent["x-request-start"] = f"t={time.time():.6f}"
            # A killed worker's requests may get no answer at all.
            with suppress(httpx.TransportError):
                client.post(urls[turn % len(urls)], content=body, headers=sent)

    with httpx.Client(timeout=30, trust_env=False) as client:
        threads = [threading.Thread(target=send, args=(client,)) for _ in range(clients)]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            over.set()
            for each in threads:
                each.join()


def seconds_until_firing(prometheus: Prometheus, alert: str) -> float:
    """Raises TimeoutError if it does not fire in time."""
    start = time.monotonic()
    while alert not in prometheus.firing():
        if time.monotonic() - start > FIRES_WITHIN_S:
            raise TimeoutError(f"{alert} did not fire within {FIRES_WITHIN_S:.0f} s.")
        time.sleep(0.2)
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--artifact", type=Path, default=IMAGES, help="one that takes photos")
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args()
    exit_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as temporary:
        folder = Path(temporary)
        mar = pack(open_artifact(given.artifact), folder / "store")
        with (
            served_model(
                folder, mar, workers=2, batch_size=8, exporter_command=exporter_command
            ) as served,
            scraping(_exporter_of(served), folder) as prometheus,
            traffic([served.url], jpegs(), served.headers, clients=4),
        ):
            console.print(f"{given.seconds:.0f} s of load on {mar.name} ...")
            time.sleep(given.seconds)
            outcome = look(prometheus, served.workers[0])
    print(json.dumps(outcome))
    sys.exit(0 if outcome["passed"] else 1)


def _exporter_of(served: ServedModel) -> str:
    if served.exporter is None:
        sys.exit("There is no exporter: give it an exporter_address in config.properties.")
    return served.exporter


def look(prometheus: Prometheus, worker: int) -> dict[str, Any]:
    """Asks every query and rule, then kills `worker`."""
    empty = []
    for name, expr in dashboard_queries(over="1m").items():
        series = len(prometheus.query(expr))
        console.print(f"{series:4} series  {name}")
        if not series and NEEDS_GPU not in expr:
            empty.append(name)
    rules = prometheus.rules()
    ill = [rule["name"] for rule in rules if rule["health"] != "ok"]
    console.print(f"{len(rules)} rules, not evaluated: {', '.join(ill) or 'none'}")
    before = sorted(prometheus.firing())
    console.print(f"firing: {', '.join(before) or 'none'}")
    os.kill(worker, signal.SIGKILL)
    took_s = seconds_until_firing(prometheus, KILLED_WORKER)
    after = sorted(prometheus.firing())
    console.print(f"{took_s:.1f} s after a worker was killed, firing: {', '.join(after)}")
    return {
        "rules": len(rules),
        "rules_not_evaluated": ill,
        "queries_without_data": empty,
        "firing_before": before,
        "fired_after_s": round(took_s, 1),
        "firing_after": after,
        "passed": not (ill or empty or before) and after == [KILLED_WORKER],
    }


if __name__ == "__main__":
    main()
