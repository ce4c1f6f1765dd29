"""Broken pipelines, which must be refused for their true reasons, and sound and unusual models,
which must be sealed and answer over HTTP what eager answers.

    python -m tests.sabotage [--only WORDS] [--every NUMBER]

Prints a table. The last line is JSON; the exit code is 1 if a target is missed.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.study import at_least, at_most, summary
from shipway.archive.pack import pack
from shipway.artifact.bundle import open_artifact
from shipway.artifact.samples import allowed_error, error_of
from shipway.errors import ShipwayError
from shipway.export.pipeline import Exported, export
from shipway.export.served_module import as_served, unwrapped
from shipway.recipe import Axis
from shipway.runtime.backends.torch_programs import EagerProgram
from tests.conftest import Silent
from tests.sabotage.broken import CHANGES, MODELS, PROGRAMS, Broken, Sabotaged
from tests.sabotage.sound import SOUND, TIME, Sound, recipe_of, sizes
from tests.servers import REPOSITORY, RunningServer, running_server

Case = TypeVar("Case")
TECHNIQUES = ("torchscript", "torch_export", "onnx_fp32")
LENGTHS = (TIME.min, 7, 11, TIME.max)
"""Of axes that vary: bounds, the length that was traced, and another one."""
RECIPE = """
import sys

sys.path.insert(0, {repository!r})
from tests.sabotage.recipes import recipe_for

recipe = recipe_for({name!r}, {group!r}, {plugin!r})
"""
PLUGIN = """
import sys

sys.path.insert(0, {repository!r})
from tests.sabotage.techniques import register_change

register_change({technique!r}, {change!r})
"""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    as_it_should: bool
    said: str


def file_name(name: str) -> str:
    """A module's name for a case."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def recipe_file(folder: Path, group: str, name: str, plugin: str | None = None) -> Path:
    """A recipe file for a case of `group`, "SOUND", "MODELS" or "PROGRAMS"."""
    path = folder / f"{file_name(name)}.py"
    path.write_text(
        RECIPE.format(repository=str(REPOSITORY), name=name, group=group, plugin=plugin)
    )
    return path


def refuse_model(folder: Path, name: str, broken: Broken) -> Row:
    """Exports a broken model, which must end with its reason."""
    path = recipe_file(folder, "MODELS", name)
    try:
        export(str(path), Silent(), out=folder / "out", only=broken.only)
    except ShipwayError as error:
        said = str(error)
        return Row(name, re.search(broken.reason, said) is not None, said)
    return Row(name, False, "SEALED")


def refuse_program(folder: Path, name: str, sabotaged: Sabotaged) -> Row:
    """Exports a sound model by a broken technique, whose row must have its reason."""
    technique = f"sabotage_{file_name(name)}"
    plugin = folder / f"{technique}.py"
    plugin.write_text(
        PLUGIN.format(repository=str(REPOSITORY), technique=technique, change=sabotaged.change)
    )
    path = recipe_file(folder, "PROGRAMS", name, technique)
    done = export(str(path), Silent(), out=folder / "out", only=("onnx_fp32", technique))
    candidate = done.certificate.candidates[technique]
    reason = CHANGES[sabotaged.change][1]
    refused = not candidate.passed and technique not in done.manifest.programs
    as_it_should = refused and re.search(reason, candidate.verdict) is not None
    return Row(name, as_it_should, candidate.verdict if refused else "SEALED")


def serve_sound(folder: Path, exported: Mapping[str, Exported], server: RunningServer) -> list[Row]:
    """Every sealed model answers requests with rows that it has not been compared on."""
    rows = []
    for name, done in exported.items():
        manifest = done.manifest
        mar = pack(open_artifact(done.path), server.model_store)
        try:
            server.management.register(
                mar.name,
                name=manifest.name,
                version=manifest.version,
                batch_size=4,
                max_batch_delay_ms=0,
                workers=1,
            )
            rows.append(Row(name, *why_wrong(name, SOUND[name], done, server)))
            server.management.unregister(manifest.name, manifest.version)
        except ShipwayError as error:
            rows.append(Row(name, False, f"not served: {error}"))
    return rows


def why_wrong(name: str, sound: Sound, done: Exported, server: RunningServer) -> tuple[bool, str]:
    """Whether the answers over HTTP are eager's, and the worst error in words."""
    recipe = recipe_of(name)
    random = np.random.default_rng(2)
    varies = any(isinstance(axis, Axis) for spec in recipe.inputs for axis in spec.shape[1:])
    tolerance = done.certificate.candidates[done.manifest.chosen].tolerance
    assert tolerance is not None
    worst = 0.0
    for length in LENGTHS if varies else LENGTHS[:1]:
        inputs = {
            spec.name: random.normal(size=(3, *sizes(spec, length))).astype(np.float32)
            for spec in recipe.inputs
        }
        example = [torch.from_numpy(array.copy()) for array in inputs.values()]
        served = unwrapped(as_served(recipe.module(), recipe), recipe, example)
        expected = EagerProgram(served.module, threads=1).run(
            [array.copy() for array in inputs.values()]
        )
        answer = server.inference.infer(done.manifest.name, inputs)
        if tuple(answer.outputs) != sound.outputs:
            return False, f"its outputs are {', '.join(answer.outputs)}"
        for measure, output in zip(done.certificate.outputs, expected, strict=True):
            found = answer.outputs[measure.name]
            if found.dtype != output.dtype or found.shape != output.shape:
                return False, (
                    f"{measure.name} is {found.dtype} {found.shape}, and eager's is "
                    f"{output.dtype} {output.shape}"
                )
            error = error_of(output, found, measure) / allowed_error(measure, tolerance)
            worst = max(worst, error)
            # A few rows may have a few times the error of all of them.
            if not error <= 4:
                return False, f"{measure.name} has {error:.2g} times the error allowed"
    return True, f"{done.manifest.chosen}, {worst:.2f} of the error allowed"


def table(title: str, rows: list[Row]) -> None:
    """Prints what became of each case."""
    console.print(f"\n{title}")
    for row in rows:
        mark = "✓" if row.as_it_should else "✗"
        said = " ".join(row.said.split())
        console.print(f"  {mark} {row.name}: {said[:240]}", markup=False, soft_wrap=True)


def main() -> int:
    """Runs every case; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--only", default="", help="cases with these words in their name")
    parser.add_argument("--every", type=int, default=1, help="one case of so many of each kind")
    options = parser.parse_args()

    def chosen(cases: Mapping[str, Case]) -> dict[str, Case]:
        names = [name for name in cases if options.only in name][:: options.every]
        return {name: cases[name] for name in names}

    sound, models, programs = chosen(SOUND), chosen(MODELS), chosen(PROGRAMS)
    with tempfile.TemporaryDirectory(prefix="shipway-sabotage-") as temporary:
        folder = Path(temporary)
        broken = [
            refuse_model(folder, name, case)
            for name, case in track(models.items(), "broken models", console=console)
        ]
        broken += [
            refuse_program(folder, name, case)
            for name, case in track(programs.items(), "broken programs", console=console)
        ]
        table("Broken: refused for this reason", broken)
        sealed: dict[str, Exported] = {}
        refused: list[Row] = []
        for name in track(sound, "sound models", console=console):
            path = recipe_file(folder, "SOUND", name)
            try:
                sealed[name] = export(str(path), Silent(), out=folder / "out", only=TECHNIQUES)
            except ShipwayError as error:
                refused.append(Row(name, False, f"REFUSED: {error}"))
        served: list[Row] = []
        if sealed:
            (folder / "server" / "model_store").mkdir(parents=True)
            with running_server(folder / "server") as server:
                served = serve_sound(folder, sealed, server)
    table("Sound: sealed, and answered over HTTP", refused + served)
    targets = {
        "wrongly_sealed": at_most(sum(row.said == "SEALED" for row in broken), 0),
        "refused_for_another_reason": at_most(
            sum(not row.as_it_should and row.said != "SEALED" for row in broken), 0
        ),
        "wrongly_refused": at_most(len(refused), 0),
        "wrongly_answered": at_most(sum(not row.as_it_should for row in served), 0),
    }
    if not options.only and options.every == 1:
        targets["broken_pipelines"] = at_least(len(broken), 30)
        targets["sound_models"] = at_least(len(sound), 20)
    told = summary(targets)
    print(json.dumps(told))
    return 0 if told["met"] == told["of"] else 1


if __name__ == "__main__":
    sys.exit(main())
