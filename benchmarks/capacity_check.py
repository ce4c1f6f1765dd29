"""Compares `shipway plan` with 1, 2 and 4 real servers behind nginx, which chooses at random.

The model waits instead of computing, as for an accelerator: 20 ms and 5 ms for each row, plus or
minus a tenth. Four models that compute would compete for two cores. The prediction is made from a
sweep of one server by `shipway bench`. Then the highest rate that keeps the target is measured with
each number of servers and compared with the prediction. The last line is JSON.
`make check-plan`
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.study import RESULTS, Outcome, at_most, exit_on_sigterm, finish
from benchmarks.variants import with_code
from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import open_artifact
from shipway.cli.main import app
from shipway.engines.ports import free_ports
from shipway.engines.state import StateDirectory
from shipway.engines.torchserve.temporary import ServedModel, served_model
from shipway.errors import ShipwayError
from shipway.files import atomic_write
from shipway.loadtest import preflight
from shipway.loadtest.capacity import Compared, Kind, calibrated, highest
from shipway.loadtest.load_test import LoadTest, Target
from shipway.loadtest.queueing import poisson
from shipway.loadtest.report_files import read_report
from shipway.loadtest.runner import measure
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from shipway.loadtest.trials import judged
from shipway.loadtest.tune import MeasuredRate, Setting, highest_rate
from shipway.releases.exporter_process import exporter_command
from shipway.runtime.host import describe_host

ARTIFACT = Path("artifacts/tabular-1.0")
SETTING = Setting(workers=1, threads=1, batch_size=4, delay_ms=1)
WAITS = """
import random as _random
import time as _time

from shipway.runtime.model import Model as _Runtime

_run = _Runtime.run


def _waiting(self, rows):
    _time.sleep((0.020 + 0.005 * len(rows)) * _random.lognormvariate(0.0, 0.1))
    return _run(self, rows)


_Runtime.run = _waiting
"""
MOST_OFF = 0.15
"""Of the measured rate: how far off a prediction may be."""
START = 0.5
"""Share of the predicted rate at which the search for the measured rate starts."""
REQUESTS = 1200
"""Requests of a load: 12 of them are beyond p99."""
ENDS_WITHIN_S = 5.0
NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    # A request's id is random. Each server has a token of its own.
    split_clients $request_id $replica {{ {choices} }}
    map $replica $authorization {{ {tokens} }}
    {upstreams}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://$replica;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization $authorization;
        }}
    }}
}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--slo-p99-ms", type=float, default=100.0)
    parser.add_argument("--nginx", default=shutil.which("nginx"), help="its program")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if not given.nginx:
        sys.exit("error: no nginx on the PATH; Debian and Ubuntu have it as nginx-light.")
    exit_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        original = pack(open_artifact(ARTIFACT), folder / "original")
        mar = with_code(original, folder / "store" / original.name, WAITS)
        fleet = [stack.enter_context(_server(folder / "0", mar))]
        name = inspect_mar(mar).name
        state = StateDirectory(folder / "0" / "state")
        sent = preflight.local_model(state, name, None, grpc=False, headers={}).inputs
        kind = _swept(name, state, folder)
        found = []
        for count in sorted(given.servers):
            while len(fleet) < count:
                fleet.append(stack.enter_context(_server(folder / str(len(fleet)), mar)))
            with _balanced(given.nginx, folder, fleet[:count]) as url:
                plan = LoadTest(target=Target(url=url), inputs=sent, load=ClosedLoop(clients=1))
                found.append(_checked(kind, plan, count, given.slo_p99_ms))
    record = {
        "slo_p99_ms": given.slo_p99_ms,
        "setting": str(SETTING),
        "sweep": [asdict(each) for each in kind.compared],
        "servers": found,
        "host": describe_host().model_dump(),
        "packages": kind.report.packages,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    atomic_write(given.out / "plan.json", json.dumps(record, indent=1) + "\n")
    finish(outcomes(found))


def outcomes(found: Sequence[Mapping[str, Any]]) -> dict[str, Outcome]:
    """The targets: for each number of servers, how far off the predicted rate is, as a share."""
    return {
        f"prediction_off_{checked['servers']}_servers": at_most(abs(checked["off"]), MOST_OFF)
        for checked in found
    }


@contextmanager
def _server(folder: Path, mar: Path) -> Iterator[ServedModel]:
    folder.mkdir()
    with served_model(
        folder,
        mar,
        workers=SETTING.workers,
        batch_size=SETTING.batch_size,
        delay_ms=SETTING.delay_ms,
        exporter_command=exporter_command,
    ) as served:
        yield served


def _swept(name: str, state: StateDirectory, folder: Path) -> Kind:
    """The kind of replica that a sweep of the server of `state` describes."""
    app(["bench", name, "--state", str(state.path), "--out", str(folder)], standalone_mode=False)
    [path] = folder.glob(f"{name}-*.json")
    return calibrated(read_report(path))


@contextmanager
def _balanced(nginx: str, folder: Path, fleet: Sequence[ServedModel]) -> Iterator[str]:
    """The address of an nginx that sends each request to one of these servers at random."""
    [port] = free_ports(1)
    share = f"{100 / len(fleet):.2f}%"
    names = [f"replica{number}" for number in range(len(fleet))]
    named = dict(zip(names, fleet, strict=True))
    config = folder / "nginx.conf"
    config.write_text(
        NGINX.format(
            folder=folder,
            port=port,
            choices=" ".join([*(f"{share} {name};" for name in names[1:]), f"* {names[0]};"]),
            tokens=" ".join(
                f'{name} "{each.headers["authorization"]}";' for name, each in named.items()
            ),
            upstreams="\n    ".join(
                f"upstream {name} {{ server {urlsplit(each.url).netloc}; keepalive 64; }}"
                for name, each in named.items()
            ),
        )
    )
    process = subprocess.Popen([nginx, "-p", folder, "-c", config], start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}{urlsplit(fleet[0].url).path}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=5), trust_env=False) as client:
            client.get(url)  # tried again until nginx listens
        yield url
    finally:
        process.terminate()
        process.wait(ENDS_WITHIN_S)


def _checked(kind: Kind, plan: LoadTest, count: int, slo_p99_ms: float) -> dict[str, Any]:
    """Measures `count` servers behind one address, and compares them with the prediction."""
    best = highest(kind.replica, slo_p99_ms)
    assert best
    compared, busy_cores = [], []

    def load(rate: float) -> MeasuredRate:
        psutil.cpu_percent()
        planned = {"load": OpenLoop(rate=rate), "seconds": math.ceil(REQUESTS / rate)}
        result = measure(plan.model_copy(update=planned))
        busy_cores.append(psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1))
        predicted, at = poisson(kind.replica, rate / count), judged(result, rate, slo_p99_ms)
        assert result.latency
        compared.append(
            Compared(
                rate=rate,
                measured_p50_ms=result.latency.p50_ms,
                measured_p99_ms=at.p99_ms,
                p50_ms=predicted.p50_ms,
                p99_ms=predicted.p99_ms,
            )
        )
        print(f"{count} × {rate / count:.1f} a second: {in_words(compared[-1])}", flush=True)
        return at

    measured = highest_rate(load, SETTING, START * count * best.rate).rate
    return {
        "servers": count,
        "rate": {"predicted": round(count * best.rate, 1), "measured": round(measured, 1)},
        "off": round(count * best.rate / measured - 1, 3),
        "loads": [asdict(each) for each in compared],
        "busy_cores_at_most": round(max(busy_cores), 2),
    }


def in_words(compared: Compared) -> str:
    return (
        f"p50 {compared.measured_p50_ms:.1f} ms ({compared.p50_ms:.1f} predicted), "
        f"p99 {compared.measured_p99_ms:.1f} ms ({compared.p99_ms:.1f})"
    )


if __name__ == "__main__":
    try:
        main()
    except ShipwayError as error:
        sys.exit(f"error: {error}")
