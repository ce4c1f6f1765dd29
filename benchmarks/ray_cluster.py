"""A Ray cluster of several nodes on this machine: each its own processes, cores and ports."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from shipway.engines.ports import free_ports

BIN = Path(sys.executable).parent
STARTED_WITHIN_S = 120.0
STARTED = "Ray runtime started."
STORE_BYTES = 100_000_000
"""Of the shared memory that each node takes for large objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNode:
    process: psutil.Popen
    """`ray start`, which the node's other processes descend from."""
    log: Path
    """What `ray start` says."""
    metrics: str
    """Where it exports Ray's metrics."""

    def await_start(self) -> None:
        """Raises RuntimeError, with what it said, if it does not start."""
        deadline = time.monotonic() + STARTED_WITHIN_S
        while STARTED not in (said := self.log.read_text()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"A Ray node did not start:\n{said[-3000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """All of it in the same moment, as a machine that loses its power."""
        with suppress(psutil.NoSuchProcess):
            everything = [*self.process.children(recursive=True), self.process]
            for act in (psutil.Process.suspend, psutil.Process.kill):
                for each in everything:
                    with suppress(psutil.NoSuchProcess):
                        act(each)
            psutil.wait_procs(everything, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCluster:
    address: str
    """What `shipway deploy ray --address` takes."""
    dashboard: str
    """http://HOST:PORT, which `serve deploy --address` takes."""
    environment: Mapping[str, str]
    """What a command needs to speak to it: among others its own token."""
    nodes: Sequence[RayNode]
    """The first is the head."""

    def run(self, command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """A command of this environment, such as `shipway`, as a user of the cluster types it."""
        return subprocess.run(
            [BIN / command, *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=STARTED_WITHIN_S * 3,
        )

    def details(self) -> dict[str, Any]:
        """What Serve runs, as Ray's REST API tells it."""
        token = {"authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        path = f"{self.dashboard}/api/serve/applications/"
        return httpx.get(path, headers=token, trust_env=False, timeout=30).json()


@contextmanager
def ray_cluster(*cores: int, head: Sequence[str | Path] = (BIN / "ray",)) -> Iterator[RayCluster]:
    """A node for each of `cores`, the first of them the head; all are gone when the block ends.

    `head` is the command that starts the head.
    """
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    port, dashboard, client = free_ports(3)
    heads = [f"--port={port}", f"--dashboard-port={dashboard}", "--head"]
    heads += [f"--ray-client-server-port={client}", "--include-dashboard=true"]
    address = f"127.0.0.1:{port}"
    with ExitStack() as stack:
        # Ray's sockets lie in it, and a socket's path may have 107 characters.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp")))
        heads.append(f"--temp-dir={folder}")
        nodes = []
        for place, each in enumerate(cores):
            node = _start(
                [*(head if place == 0 else (BIN / "ray",)), "start", f"--num-cpus={each}"]
                + (heads if place == 0 else [f"--address={address}"]),
                folder / f"node-{place}.log",
                environment,
            )
            stack.callback(node.kill)
            node.await_start()
            nodes.append(node)
        yield RayCluster(
            address=address,
            dashboard=f"http://127.0.0.1:{dashboard}",
            environment=environment,
            nodes=nodes,
        )


def _start(command: list[Any], log: Path, environment: Mapping[str, str]) -> RayNode:
    agent, metrics = free_ports(2)
    with log.open("w") as file:
        process = psutil.Popen(
            [*command, "--node-ip-address=127.0.0.1", "--block", "--disable-usage-stats"]
            + [f"--object-store-memory={STORE_BYTES}", f"--metrics-export-port={metrics}"]
            + [f"--dashboard-agent-listen-port={agent}"],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            # A session of its own: by a Ctrl-C of ours it would end without its children.
            start_new_session=True,
        )
    return RayNode(process=process, log=log, metrics=f"http://127.0.0.1:{metrics}/metrics")
