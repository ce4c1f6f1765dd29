"""A study: an export beside a program that keeps its core busy finds the speedups of one that is
alone.

What else runs on the machine meanwhile changes what it measures alone, so it may be repeated."""

import os
import subprocess
import sys
from collections.abc import Iterator
from math import exp, log
from pathlib import Path

import pytest

from shipway.export.noise import notice
from shipway.export.pipeline import Exported, export
from shipway.export.speedup import speedup
from tests.conftest import TINY_RECIPE, Silent

pytestmark = [pytest.mark.quiet, pytest.mark.timing]

ALLOWED = 1.25
"""Speedups beside burners and alone differ by at most this factor."""


class BesideBurners(Silent):
    """Steps of an export. Those that measure run beside a process on each core of this one, which
    never pauses; the others would only take longer."""

    def __init__(self) -> None:
        self._measures = False
        self._burners: list[subprocess.Popen[bytes]] = []

    def step(self, doing: str) -> "BesideBurners":
        self._measures = doing.startswith("measuring")
        return self

    def __enter__(self) -> "BesideBurners":
        if self._measures:
            command = [sys.executable, "-c", "while True: pass"]
            self._burners = [subprocess.Popen(command) for _ in os.sched_getaffinity(0)]
        return self

    def __exit__(self, *exception: object) -> None:
        for burner in self._burners:
            burner.kill()
            burner.wait()
        self._burners = []


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The tiny network on larger pictures: eager takes about 4 ms for one, and 12 ms for four."""
    text = TINY_RECIPE.read_text()
    text = text.replace("height=64", "height=128").replace("width=64", "width=128")
    text = text.replace("repeat(16,", "repeat(32,")
    path = tmp_path / "larger_recipe.py"
    path.write_text(text)
    return path


@pytest.fixture
def one_core() -> Iterator[None]:
    """Lets this process and its children use one core. On several, an export that is alone reports
    speedups on all cores, and one beside burners those on one thread, which are others."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


def speedups(exported: Exported) -> dict[tuple[str, str], float]:
    """Over eager, by candidate and shape."""
    certificate = exported.certificate
    return {
        (name, shape): found.value
        for name, candidate in certificate.candidates.items()
        for shape in certificate.shapes
        if (found := speedup(candidate, certificate.eager, shape))
    }


def test_an_export_beside_a_busy_program_finds_the_same_speedups(one_core, recipe, tmp_path):
    only = ("onnx_fp32", "onnx_int8")
    alone = export(str(recipe), Silent(), out=tmp_path / "alone", only=only)
    beside = export(str(recipe), BesideBurners(), out=tmp_path / "beside", only=only)
    expected, found = speedups(alone), speedups(beside)
    off = {key: exp(abs(log(found[key] / expected[key]))) for key in expected}
    print({key: (round(expected[key], 2), round(found[key], 2)) for key in expected})
    assert len(expected) == 4 and found.keys() == expected.keys()
    assert max(off.values()) <= ALLOWED, (expected, found)
    if said := notice(beside.certificate, beside.manifest.chosen):
        assert "runs quiet" in said and "on one thread" in beside.manifest.chosen_because
