"""Artifacts on a Ray cluster of two nodes, and what becomes of requests when it changes.

    python -m benchmarks.demo_ray [ARTIFACT …]

A node is a set of processes of its own on this machine, and a models.yaml says what they serve.
Answers are held against the certificates, and against TorchServe's; then, under load, a new version
rolls out and a node is killed. It says what it measured of each promise and writes it to
results/ray.json; the last line is JSON, and the exit code is not 0 if a promise is not kept.
`make demo-ray`
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from rich.console import Console

from benchmarks.ray_cluster import RayCluster, RayNode, ray_cluster
from benchmarks.ray_load import CLIENTS, Exchange, Load, load_on
from benchmarks.study import RESULTS, exit_on_sigterm
from shipway.archive.pack import pack
from shipway.artifact.bundle import MANIFEST, Artifact, open_artifact, write_record
from shipway.artifact.digests import SUMS, write_sums
from shipway.artifact.samples import allowed_error, error_of, file_of
from shipway.engines.ports import free_ports
from shipway.engines.tensors import pack as pack_tensors
from shipway.engines.tensors import unpack
from shipway.engines.torchserve.temporary import registered, temporary_server
from shipway.files import atomic_write
from shipway.releases.exporter_process import exporter_command
from shipway.releases.models_file import Model, write_models
from shipway.runtime.host import describe_host

ARTIFACTS = (Path("artifacts/efficientnet_lite0-1.0"), Path("artifacts/minilm-1.0"))
NEXT = "2.0"
NODE_CORES = (6, 3)
"""The head has room for the versions that roll out."""
REPLICAS = 2
"""Of each version, a core each, so that each node has one."""
STAGES = frozenset({"queue", "decode", "preprocess", "inference", "postprocess"})
GATHERED_WITHIN_S = 60.0
"""By Ray, which gathers its nodes' metrics every ten."""

console = Console(highlight=False, soft_wrap=True, markup=False)


@dataclass(frozen=True, slots=True)
class Promise:
    """What is promised, and what was found of it."""

    promise: str
    kept: bool
    found: Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("artifacts", nargs="*", type=Path, default=ARTIFACTS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    exit_on_sigterm()
    artifacts = [open_artifact(each) for each in given.artifacts]
    promises = []
    try:
        with (
            tempfile.TemporaryDirectory(prefix="shipway-ray-") as temporary,
            closing(_shown(artifacts, Path(temporary))) as shown,
        ):
            for each in shown:
                _say(f"{'kept' if each.kept else 'BROKEN'}: {each.promise}")
                promises.append(each)
    except KeyboardInterrupt:
        sys.exit("stopped")
    _print_table(promises)
    found = [asdict(each) for each in promises]
    record = {
        "promises": found,
        "clients": CLIENTS,
        "cores_of_nodes": NODE_CORES,
        "host": describe_host().model_dump(),
        "packages": artifacts[0].manifest.packages
        | {each: metadata.version(each) for each in ("ray", "torchserve")},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    atomic_write(given.out / "ray.json", json.dumps(record, indent=1) + "\n")
    print(json.dumps(found))
    sys.exit(0 if all(each.kept for each in promises) else 1)


def _shown(artifacts: Sequence[Artifact], folder: Path) -> Generator[Promise, None, None]:
    _say("starting a Ray cluster of two nodes …")
    with ray_cluster(*NODE_CORES) as cluster:
        models = folder / "models.yaml"
        _write_models(models, artifacts)
        url = _deployed(cluster, models)
        for each in artifacts:
            yield _as_certified(url, each)
        yield from _as_torchserve(url, artifacts, folder)
        yield _has_metrics(cluster)
        newer = [_renewed(artifacts[0], folder), *artifacts[1:]]
        with load_on(url, artifacts) as load:
            _write_models(models, newer)
            start = time.monotonic()
            _run(cluster, "shipway", *_deploying(models), "--address", cluster.address)
            seconds = time.monotonic() - start
        yield _rolled_out(load, newer[0].manifest.name, seconds)
        node = cluster.nodes[1]
        has = _replicas_on(node, cluster)
        _say(f"killing the node that has {' and '.join(has) or 'no replica'} …")
        with load_on(url, newer) as load:
            node.kill()
            gone = time.monotonic()
        yield _lost(load, gone, has)


def _write_models(path: Path, artifacts: Sequence[Artifact]) -> None:
    write_models(
        path,
        [
            Model(
                name=each.manifest.name,
                version=each.manifest.version,
                artifact=each.path.absolute(),
                workers=REPLICAS,
            )
            for each in artifacts
        ],
    )


def _deploying(models: Path) -> list[object]:
    return ["deploy", "ray", "--models", models, "--cores", 1]


def _deployed(cluster: RayCluster, models: Path) -> str:
    """Returns where it answers."""
    [port] = free_ports(1)
    config = models.with_name("serve.yaml")
    _run(cluster, "shipway", *_deploying(models), "--port", port, "--output", config)
    # Both nodes are on this machine, where both proxies would share the port, and the kernel give
    # the one that is killed its share of the clients.
    told = yaml.safe_load(config.read_text()) | {"proxy_location": "HeadOnly"}
    config.write_text(yaml.safe_dump(told))
    _run(cluster, "serve", "deploy", config, "--address", cluster.dashboard)
    _run(cluster, "shipway", *_deploying(models), "--address", cluster.address)
    return f"http://127.0.0.1:{port}"


def _run(cluster: RayCluster, command: str, *arguments: object) -> None:
    _say(f"$ {command} {' '.join(map(str, arguments))}")
    done = cluster.run(command, *arguments)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")


def _as_certified(url: str, artifact: Artifact) -> Promise:
    """Asks for the sealed samples over HTTP."""
    manifest = artifact.manifest
    program, outputs = _answered(url, artifact)
    expected = {each.name: _rows_of(artifact, each.name) for each in manifest.outputs}
    return _as_expected(
        f"{manifest.name} answers as certified", artifact, program, outputs, expected
    )


def _as_torchserve(url: str, artifacts: Sequence[Artifact], folder: Path) -> Iterator[Promise]:
    """Asks a TorchServe of its own for the same."""
    _say("starting TorchServe …")
    store = folder / "store"
    mars = [pack(each, store) for each in artifacts]
    with temporary_server(folder, store, exporter_command=exporter_command) as state:
        for artifact, mar in zip(artifacts, mars, strict=True):
            with registered(state, mar, workers=1, batch_size=8) as served:
                theirs = served.url.rpartition("/predictions/")[0]
                _, expected = _answered(theirs, artifact, served.headers)
            program, outputs = _answered(url, artifact)
            promise = f"{artifact.manifest.name} answers as TorchServe does"
            yield _as_expected(promise, artifact, program, outputs, expected)


def _answered(
    url: str, artifact: Artifact, headers: Mapping[str, str] | None = None
) -> tuple[str, dict[str, np.ndarray]]:
    """The program that ran, and what it made of the samples."""
    manifest = artifact.manifest
    body, own = pack_tensors({each.name: _rows_of(artifact, each.name) for each in manifest.inputs})
    answer = httpx.post(
        f"{url}/predictions/{manifest.name}",
        content=body,
        headers={**own, **(headers or {})},
        timeout=60,
        trust_env=False,
    ).raise_for_status()
    return answer.headers["shipway-program"], unpack(answer.content, answer.headers)


def _rows_of(artifact: Artifact, name: str) -> np.ndarray:
    return np.load(artifact.path / file_of(name), allow_pickle=False)


def _as_expected(
    promise: str,
    artifact: Artifact,
    program: str,
    outputs: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
) -> Promise:
    """Within what the certificate allows that program."""
    tolerance = artifact.certificate.candidates[program].tolerance
    assert tolerance is not None  # as every program that passed has one
    measures = {measure.name: measure for measure in artifact.certificate.outputs}
    off_by = max(error_of(expected[name], outputs[name], measures[name]) for name in expected)
    allowed = min(allowed_error(measures[name], tolerance) for name in expected)
    found = {"program": program, "off_by": round(off_by, 3), "allowed": allowed}
    return Promise(promise, off_by <= allowed, found)


def _has_metrics(cluster: RayCluster) -> Promise:
    _say("waiting for Ray to gather the metrics …")
    deadline = time.monotonic() + GATHERED_WITHIN_S
    while not (stages := _stages(cluster)) >= STAGES and time.monotonic() < deadline:
        time.sleep(1)
    return Promise("every stage is in Ray's metrics", stages >= STAGES, {"stages": sorted(stages)})


def _stages(cluster: RayCluster) -> set[str]:
    """Those that a node exports."""
    shown = [httpx.get(each.metrics, trust_env=False).text for each in cluster.nodes]
    return {
        line.partition('stage="')[2].partition('"')[0]
        for text in shown
        for line in text.splitlines()
        if line.startswith("ray_shipway_stage_seconds_count")
    }


def _renewed(artifact: Artifact, folder: Path) -> Artifact:
    """The same programs under the next version's number, as an export would seal them."""
    manifest = artifact.manifest.model_copy(update={"version": NEXT})
    path = folder / f"{manifest.name}-{NEXT}"
    shutil.copytree(artifact.path, path, ignore=shutil.ignore_patterns(SUMS))
    write_record(path / MANIFEST, manifest)
    write_sums(path)
    return open_artifact(path)


def _rolled_out(load: Load, name: str, seconds: float) -> Promise:
    versions = [each.version for each in load.sent if each.model == name and each.status == 200]
    _say_lost(load.lost)
    return Promise(
        f"{name} {NEXT} rolls out under load without an error",
        # Routers hear of it one after the other, so the two may alternate for a moment; not at the
        # end.
        not load.lost and set(versions[-CLIENTS:]) == {NEXT},
        {
            "seconds": round(seconds, 1),
            "requests": len(load.sent),
            "errors": len(load.lost),
            f"by_{NEXT}": versions.count(NEXT),
            "slowest_s": load.slowest_s,
        },
    )


def _replicas_on(node: RayNode, cluster: RayCluster) -> list[str]:
    """The versions that have a replica there."""
    pids = {each.pid for each in node.process.children(recursive=True)}
    return [
        name
        for name, application in cluster.details()["applications"].items()
        for replica in application["deployments"].get("Model", {}).get("replicas", ())
        if replica.get("pid") in pids
    ]


def _lost(load: Load, gone: float, had: Sequence[str]) -> Promise:
    """`gone` is the moment from which nothing of the node was left."""
    # To be computed there a request had to be sent before, and a replica had to have it.
    computed = [each for each in load.lost if each.start < gone and "ReplicaLost" in each.said]
    answered_later = sum(each.start >= gone and each.status == 200 for each in load.sent)
    _say_lost(load.lost)
    return Promise(
        "a killed node loses what it was computing, and nothing else",
        bool(had) and len(computed) == len(load.lost) and answered_later > 0,
        {
            "in_flight": sum(each.start <= gone <= each.end for each in load.sent),
            "lost_with_the_node": len(computed),
            "lost_besides": len(load.lost) - len(computed),
            "answered_later": answered_later,
            "slowest_s": load.slowest_s,
        },
    )


def _say_lost(lost: Sequence[Exchange]) -> None:
    for each in lost[:5]:
        _say(f"  {each.model}: {each.status} {each.said[:300]}")


def _say(what: str) -> None:
    console.print(f"{datetime.now():%H:%M:%S}  {what}")


def _print_table(promises: Sequence[Promise]) -> None:
    width = max(len(each.promise) for each in promises)
    for each in promises:
        found = (
            f"{name.replace('_', ' ')} {' '.join(value) if isinstance(value, list) else value}"
            for name, value in each.found.items()
        )
        verdict = "kept" if each.kept else "BROKEN"
        console.print(f"{verdict:8}{each.promise:{width}}  {', '.join(found)}")


if __name__ == "__main__":
    main()
