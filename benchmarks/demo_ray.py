"""Artifacts on a Ray cluster of two nodes, and what becomes of requests when it changes.

    python -m benchmarks.demo_ray [ARTIFACT …]

A node is a set of processes of its own on this machine. Answers are held against the certificates,
and against TorchServe's; then, under load, a new version rolls out and a node is killed. It says
what it measured; the last line is JSON, and the exit code is not 0 if a claim does not hold.
`make demo-ray`
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import yaml
from rich.console import Console

from benchmarks import servers
from benchmarks.inputs import for_task
from benchmarks.plan import Input
from benchmarks.ray_cluster import RayCluster, ray_cluster
from handlers.archive import pack
from server.tensors import pack as pack_tensors
from server.tensors import unpack
from shipway.artifact.bundle import MANIFEST, Artifact, open_artifact, write_record
from shipway.artifact.digests import SUMS, write_sums
from shipway.artifact.samples import file_of, relative_error

ARTIFACTS = (Path("artifacts/efficientnet_lite0-1.0"), Path("artifacts/minilm-1.0"))
NEXT = "2.0"
CLIENTS = 8
REPLICAS = 2
"""Of each version, a core each, so that each node has one."""
BEFORE_S, AFTER_S = 3.0, 8.0
"""Of load, around what happens under it."""

console = Console(highlight=False, soft_wrap=True, markup=False)


@dataclass(frozen=True, slots=True)
class Sent:
    """A request under load and what came back."""

    model: str
    start: float
    end: float
    status: int
    """0 where the connection broke."""
    version: str
    said: str


@dataclass(slots=True)
class Load:
    sent: list[Sent] = field(default_factory=list)

    @property
    def lost(self) -> list[Sent]:
        return [each for each in self.sent if each.status != 200]

    def in_flight(self, moment: float) -> int:
        return sum(each.start <= moment <= each.end for each in self.sent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("artifacts", nargs="*", type=Path, default=ARTIFACTS)
    given = parser.parse_args()
    servers.end_with_us()
    artifacts = [open_artifact(each) for each in given.artifacts]
    claims: dict[str, bool] = {}
    with tempfile.TemporaryDirectory(prefix="shipway-ray-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        console.print("Starting a Ray cluster of two nodes …")
        # The head has room for the versions that roll out.
        cluster = stack.enter_context(ray_cluster(6, 3))
        url = _deployed(cluster, artifacts, folder)
        claims |= {
            f"{each.manifest.name} as certified": _as_certified(url, each) for each in artifacts
        }
        claims["as TorchServe"] = _as_torchserve(url, artifacts, folder)
        claims["stages in Ray's metrics"] = _has_metrics(cluster)
        newer = [_renewed(artifacts[0], folder), *artifacts[1:]]
        claims["rollout without an error"] = _rolls_out(cluster, url, artifacts, newer)
        claims["only what a lost node had is lost"] = _loses_a_node(cluster, url, newer)
    for claim, holds in claims.items():
        console.print(f"{'holds' if holds else 'FAILS'}  {claim}")
    print(json.dumps(claims))
    sys.exit(0 if all(claims.values()) else 1)


def _deployed(cluster: RayCluster, artifacts: Sequence[Artifact], folder: Path) -> str:
    """Returns where it answers."""
    [port] = servers.free_ports(1)
    config = folder / "serve.yaml"
    _run(cluster, "shipway", *_deploying(artifacts), "--port", port, "--output", config)
    # Both nodes are on this machine, where both proxies would share the port, and the kernel give
    # the one that is killed its share of the clients.
    told = yaml.safe_load(config.read_text()) | {"proxy_location": "HeadOnly"}
    config.write_text(yaml.safe_dump(told))
    start = time.monotonic()
    _run(cluster, "serve", "deploy", config, "--address", cluster.dashboard)
    _run(cluster, "shipway", *_deploying(artifacts), "--address", cluster.address)
    console.print(f"{len(artifacts)} models were up after {time.monotonic() - start:.1f} s")
    return f"http://127.0.0.1:{port}"


def _deploying(artifacts: Sequence[Artifact]) -> list[object]:
    return [
        *("deploy", "ray", *(each.path for each in artifacts)),
        *("--cores", 1, "--min-replicas", REPLICAS, "--max-replicas", REPLICAS),
    ]


def _run(cluster: RayCluster, command: str, *arguments: object) -> None:
    console.print(f"$ {command} {' '.join(map(str, arguments))}")
    done = cluster.run(command, *arguments)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")


def _as_certified(url: str, artifact: Artifact) -> bool:
    """Whether the sealed samples, asked for over HTTP, come back as the certificate says."""
    manifest = artifact.manifest

    def rows_of(name: str) -> np.ndarray:
        return np.load(artifact.path / file_of(name), allow_pickle=False)

    reply = _tensors(url, artifact)
    program = reply.headers["shipway-program"]
    outputs = unpack(reply.content, reply.headers)
    off_by = max(
        relative_error(rows_of(each.name), outputs[each.name]) for each in manifest.outputs
    )
    tolerance = artifact.certificate.candidates[program].tolerance
    assert tolerance
    console.print(
        f"{manifest.name} runs {program}: off by {off_by:.2g} of eager's samples, "
        f"{tolerance.relative_error:.2g} allowed"
    )
    return off_by <= tolerance.relative_error


def _tensors(
    url: str, artifact: Artifact, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    manifest = artifact.manifest
    body, own = pack_tensors(
        {each.name: np.load(artifact.path / file_of(each.name)) for each in manifest.inputs}
    )
    answer = httpx.post(
        f"{url}/predictions/{manifest.name}",
        content=body,
        headers={**own, **(headers or {})},
        timeout=60,
        trust_env=False,
    )
    return answer.raise_for_status()


def _as_torchserve(url: str, artifacts: Sequence[Artifact], folder: Path) -> bool:
    """Whether a TorchServe of its own gives the same outputs for the samples."""
    store = folder / "store"
    mars = [pack(each, store) for each in artifacts]
    with servers.our_server(folder, store) as state:
        alike = []
        for artifact, mar in zip(artifacts, mars, strict=True):
            with servers.registered(state, mar, workers=1, batch_size=8) as served:
                theirs = _tensors(
                    served.url.rpartition("/predictions/")[0], artifact, served.headers
                )
            ours = _tensors(url, artifact)
            program = ours.headers["shipway-program"]
            expected = unpack(theirs.content, theirs.headers)
            found = unpack(ours.content, ours.headers)
            off_by = max(relative_error(expected[name], found[name]) for name in expected)
            tolerance = artifact.certificate.candidates[program].tolerance
            assert tolerance
            alike.append(off_by <= tolerance.relative_error)
            console.print(f"{artifact.manifest.name}: off by {off_by:.2g} of TorchServe's outputs")
    return all(alike)


def _has_metrics(cluster: RayCluster) -> bool:
    """Whether each node exports the stages of the requests that it answered."""
    time.sleep(12)  # nodes gather them every 10 s
    shown = [httpx.get(each.metrics, trust_env=False).text for each in cluster.nodes]
    stages = {
        line.partition('stage="')[2].partition('"')[0]
        for text in shown
        for line in text.splitlines()
        if line.startswith("ray_shipway_stage_seconds_count")
    }
    console.print(f"stages in Ray's metrics: {', '.join(sorted(stages)) or 'none'}")
    return {"queue", "decode", "inference", "postprocess"} <= stages


def _renewed(artifact: Artifact, folder: Path) -> Artifact:
    """The same programs under the next version's number, as an export would seal them."""
    manifest = artifact.manifest.model_copy(update={"version": NEXT})
    path = folder / f"{manifest.name}-{NEXT}"
    shutil.copytree(artifact.path, path, ignore=shutil.ignore_patterns(SUMS))
    write_record(path / MANIFEST, manifest)
    write_sums(path)
    return open_artifact(path)


@contextmanager
def _load(url: str, artifacts: Sequence[Artifact]) -> Iterator[Load]:
    """Clients that each send their next request when the last is answered, until the block ends."""
    load, over = Load(), threading.Event()

    def send(artifact: Artifact, inputs: Sequence[Input]) -> None:
        path = f"{url}/predictions/{artifact.manifest.name}"
        with httpx.Client(timeout=60, trust_env=False) as client:
            for turn in count():
                if over.is_set():
                    return
                load.sent.append(_sent(client, path, inputs[turn % len(inputs)]))

    threads = []
    for place in range(CLIENTS):
        artifact = artifacts[place % len(artifacts)]
        inputs = for_task(artifact.manifest.task, ())
        threads.append(threading.Thread(target=send, args=(artifact, inputs)))
    for each in threads:
        each.start()
    try:
        time.sleep(BEFORE_S)
        yield load
        time.sleep(AFTER_S)
    finally:
        over.set()
        for each in threads:
            each.join()


def _sent(client: httpx.Client, path: str, one: Input) -> Sent:
    start = time.monotonic()
    status, version, said = 0, "", ""
    try:
        answer = client.post(path, content=one.body, headers={"content-type": one.content_type})
        status, version = answer.status_code, answer.headers.get("shipway-version", "")
        said = "" if answer.is_success else answer.text
    except httpx.TransportError as error:
        said = repr(error)
    return Sent(path.rpartition("/")[2], start, time.monotonic(), status, version, said)


def _rolls_out(
    cluster: RayCluster, url: str, artifacts: Sequence[Artifact], newer: Sequence[Artifact]
) -> bool:
    with _load(url, artifacts) as load:
        start = time.monotonic()
        _run(cluster, "shipway", *_deploying(newer), "--address", cluster.address)
        took_s = time.monotonic() - start
    name = newer[0].manifest.name
    versions = [each.version for each in load.sent if each.model == name and each.status == 200]
    slowest_s = max(each.end - each.start for each in load.sent)
    console.print(
        f"{name} {NEXT} rolled out in {took_s:.1f} s under load: {len(load.sent)} requests, "
        f"{len(load.lost)} errors, the slowest {slowest_s:.2f} s; "
        f"{versions.count(NEXT)} of {len(versions)} answered by {NEXT}"
    )
    _say_lost(load)
    # Routers hear of it one after the other, so the two may alternate for a moment; not at the end.
    return not load.lost and set(versions[-CLIENTS:]) == {NEXT}


def _loses_a_node(cluster: RayCluster, url: str, artifacts: Sequence[Artifact]) -> bool:
    with _load(url, artifacts) as load:
        moment = time.monotonic()
        cluster.nodes[1].kill()
    late = [each for each in load.lost if not each.start <= moment <= each.end]
    after = sum(each.start > moment and each.status == 200 for each in load.sent)
    slowest_s = max(each.end - each.start for each in load.sent)
    console.print(
        f"a node was killed under load: {load.in_flight(moment)} requests were in flight, "
        f"{len(load.lost)} were lost, {len(late)} of them sent later; {after} sent later were "
        f"answered, the slowest of all in {slowest_s:.2f} s"
    )
    _say_lost(load)
    return not late and after > 0


def _say_lost(load: Load) -> None:
    for each in load.lost[:5]:
        console.print(f"  {each.model}: {each.status} {each.said[:300]}")


if __name__ == "__main__":
    main()
