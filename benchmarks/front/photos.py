"""Photos: beside the other servers with the same program, and beside no server at all.

Of the servers one runs at a time, as in `make bench-peers`. For the share of the ceiling the better
of two layouts counts: the workers that the archive recommends, and a worker a core. The ceiling is
two processes that only decode and compute: with both cores for themselves, and while another
process spends the processor time that the load generator spent.
"""

import statistics
from contextlib import ExitStack
from pathlib import Path

from benchmarks.ceiling import ceiling
from benchmarks.front.servers import kill, memory_of, ours, processor_us, wait_for_front
from benchmarks.front.turns import Part, warm
from benchmarks.front.wrk import Wrk
from benchmarks.peers.expected import classes_of
from benchmarks.peers.systems import BYTES, OURS, SYSTEMS
from benchmarks.peers.table import MANY, ONE
from benchmarks.peers.turns import Turns
from benchmarks.stock import IMAGES
from benchmarks.study import at_least, at_most
from shipway.artifact.bundle import open_artifact
from shipway.runtime.host import available_cores
from shipway.tasks.demo_inputs import jpegs

PEER_TARGETS = {"rate_16_vs_best_peer": (at_least, 1.2), "p50_1_vs_best_peer": (at_most, 1.0)}
TARGETS = {
    "share_of_ceiling": (at_least, 0.88),
    "worker_mb": (at_most, 100),
    "start_s": (at_most, 0.5),
    "killed_back_s": (at_most, 1.0),
}


def measure_peers(folder: Path, part: Part) -> dict[str, float]:
    """The ratios to the best peer of each kind."""
    artifact = open_artifact(IMAGES)
    photos = jpegs()
    turns = Turns(
        artifact=artifact,
        photos=photos,
        expected=classes_of(artifact, photos),
        folder=folder,
        seconds=part.seconds,
        console=part.console,
    )
    rows = turns.compare("same_program", SYSTEMS, rounds=max(1, part.rounds - 1))
    good = {row["system"]: row for row in rows if "failed" not in row}
    mine = good.pop(OURS.name)
    rates = {name: row["requests_a_second"]["median"] for name, row in good.items()}
    waits = {name: row["p50_ms"][ONE] for name, row in good.items()}
    fastest, soonest = max(rates, key=rates.__getitem__), min(waits, key=waits.__getitem__)
    part.console.print(f"the best: {fastest} with 16 clients, {soonest} with one")
    return {
        "rate_16": mine["requests_a_second"]["median"],
        "rate_16_vs_best_peer": mine["requests_a_second"]["median"] / rates[fastest],
        "p50_1_ms": mine["p50_ms"][ONE],
        "p50_1_vs_best_peer": mine["p50_ms"][ONE] / waits[soonest],
    }


def measure(folder: Path, part: Part) -> dict[str, float]:
    """The share of the ceiling, and a worker's memory and start."""
    artifact = open_artifact(IMAGES)
    bodies = jpegs()
    wrk = Wrk(folder / "wrk", bodies, BYTES, part.seconds)
    shares: list[float] = []
    bare_shares: list[float] = []
    with ExitStack() as stack:
        layouts = {
            workers: stack.enter_context(
                ours(folder / f"ours-{workers}", artifact, front="on", workers=workers)
            )
            for workers in sorted({artifact.manifest.serving.workers, available_cores()})
        }
        for served, _ in layouts.values():
            wait_for_front(served, bodies[0], BYTES)
            warm(wrk, served)
        for turn in range(part.rounds):
            taken = {}
            for workers, (served, _) in layouts.items():
                taken[workers] = sample, _ = wrk.load_and_cores(served, MANY)
                part.say(f"{turn + 1}: {workers} worker(s), 16 clients", sample)
            best, cores = max(taken.values(), key=lambda each: each[0].rate)
            beside = ceiling(IMAGES, bodies, part.seconds, beside=cores)
            bare = ceiling(IMAGES, bodies, part.seconds)
            part.console.print(
                f"{turn + 1}: no server, {beside:.0f} a second beside {cores:.2f} cores of load, "
                f"{bare:.0f} alone"
            )
            shares.append(best.rate / beside)
            bare_shares.append(best.rate / bare)
        served, state = layouts[available_cores()]
        own = memory_of(state)
        spent = processor_us(wrk, state, served, MANY)
        killed = kill(wrk, state, served)
    return {
        "share_of_ceiling": statistics.median(shares),
        "share_of_bare_ceiling": statistics.median(bare_shares),
        "worker_mb": own["worker_mb"],
        "start_s": killed["start_s"],
        "killed_back_s": killed["back_s"],
        "killed_lost": killed["lost"],
        **spent,
    }
