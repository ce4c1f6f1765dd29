"""The load generator of these measurements: wrk, because one in Python needs more time for a
request to a small model than the servers do."""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.peers.table import Sample
from shipway.engines.torchserve.temporary import ServedModel
from shipway.errors import ShipwayError

SCRIPT = r"""
local headers = {}
for name, value in string.gmatch(os.getenv("WRK_HEADERS"), "([^\n:]+): ([^\n]+)") do
  headers[name] = value
end
local bodies, made, at = {}, {}, 0
for path in string.gmatch(os.getenv("WRK_BODIES"), "%S+") do
  local file = io.open(path, "rb")
  bodies[#bodies + 1] = file:read("*a")
  file:close()
end
wrk.method, wrk.headers, wrk.body = "POST", headers, bodies[1]
if #bodies > 1 then
  function request()
    at = at % #bodies + 1
    made[at] = made[at] or wrk.format(nil, nil, nil, bodies[at])
    return made[at]
  end
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{"rate": %f, "p50_ms": %f, "p99_ms": %f, "errors": %d}\n',
    1e6 * summary.requests / summary.duration, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class Wrk:
    """Sends the same bodies again and again. Raises ShipwayError if wrk is not installed."""

    def __init__(
        self, folder: Path, bodies: Sequence[bytes], headers: Mapping[str, str], seconds: float
    ) -> None:
        """`folder` is an empty one without blanks in its path; `seconds` those of a load."""
        if shutil.which("wrk") is None:
            raise ShipwayError("wrk is not installed. Install it with `apt-get install wrk`.")
        folder.mkdir()
        self._script = folder / "load.lua"
        self._script.write_text(SCRIPT)
        self._bodies = [folder / f"body-{place}" for place in range(len(bodies))]
        for path, body in zip(self._bodies, bodies, strict=True):
            path.write_bytes(body)
        self._headers = headers
        self._seconds = seconds

    def load(self, served: ServedModel, clients: int, seconds: float | None = None) -> Sample:
        """A closed loop of `clients`."""
        return self.load_and_cores(served, clients, seconds)[0]

    def load_and_cores(
        self, served: ServedModel, clients: int, seconds: float | None = None
    ) -> tuple[Sample, float]:
        """The same, and how many cores wrk itself used meanwhile."""
        seconds = seconds or self._seconds
        headers = {**self._headers, **served.headers}
        before = _children_s()
        done = subprocess.run(
            ["wrk", "--threads=1", f"--connections={clients}", "--latency"]
            + [f"--duration={seconds:g}s", "--script", self._script, served.url],
            env=os.environ
            | {
                "WRK_BODIES": " ".join(map(str, self._bodies)),
                "WRK_HEADERS": "\n".join(f"{name}: {value}" for name, value in headers.items()),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        cores = (_children_s() - before) / seconds
        return Sample(**json.loads(done.stdout.splitlines()[-1])), cores


def _children_s() -> float:
    """Seconds of processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def authorization(served: ServedModel) -> str:
    """The value of the header with the token; empty for a server that needs none."""
    return next(
        (served.headers[key] for key in served.headers if key.lower() == "authorization"), ""
    )
