"""Programs run where nothing of the recipe is imported. One that crashes costs no other one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

from shipway.export.clean_process import CleanProcess, one_line
from shipway.export.errors import ChildLost, ProgramRefused
from shipway.runtime.backends.base import ProgramFile

BACKEND = """
import os
import sys
import time

import numpy as np

from shipway.runtime.backends import BACKENDS


class Odd:
    formats = ("odd",)

    def open(self, program, *, threads, device_index=0):
        word = program.path.read_text()
        if word == "crash":
            os._exit(9)
        if word == "hang":
            time.sleep(60)
        if word == "fail":
            raise ValueError("line 7\\nand more")
        return self

    def run(self, inputs):
        names = ("shipway.export.worker", "shipway.export.techniques", "torchvision", "helper")
        loaded = [name in sys.modules for name in names]
        return [np.array(loaded), inputs[0].astype("int16"), np.array(inputs[0].flags.writeable)]

    def kernels(self, file, opened, batch, input_names):
        return None


BACKENDS.register("odd")(Odd())
"""


class Summed(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.sum(1), x


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("clean")
    (made / "odd_backend.py").write_text(BACKEND)
    torch.jit.save(torch.jit.trace(Summed(), torch.zeros(1, 3)), made / "summed.pt")
    return made


@pytest.fixture(scope="module")
def process(folder):
    made = CleanProcess(folder / "log", [folder / "odd_backend.py"])
    yield made
    made.kill()


@pytest.fixture(autouse=True)
def patient(process):
    process._call_seconds = 120
    yield


def odd(folder: Path, word: str) -> ProgramFile:
    path = folder / "word"
    path.write_text(word)
    return ProgramFile(path=path, format="odd", precision="fp32")


def test_a_program_gives_its_outputs_for_batches_of_any_size(process, folder):
    file = ProgramFile(path=folder / "summed.pt", format="torchscript", precision="fp32")
    with process.open("torch", file, threads=1) as program:
        for rows in (1, 4):
            given = np.random.default_rng(rows).normal(size=(rows, 3)).astype("float32")
            summed, same = program.run([given])
            assert summed == pytest.approx(given.sum(1), abs=1e-6)
            assert np.array_equal(same, given)
            assert not np.shares_memory(same, given)
        assert program.kernels([given], ["x"]) is None
        assert program.onednn_kernels([given]).source == "oneDNN's log"


def test_it_has_the_plugins_and_neither_the_recipe_nor_what_exports(process, folder):
    with process.open("odd", odd(folder, "fine"), threads=1) as program:
        loaded, numbers, _ = program.run([np.arange(3.0)])
    assert not loaded.any()
    assert numbers.dtype == np.int16, "each output keeps its own dtype"


def test_an_error_is_one_line_and_the_next_program_opens(process, folder):
    pid = process.pid
    with pytest.raises(ProgramRefused, match="^ValueError: line 7$"):
        process.open("odd", odd(folder, "fail"), threads=1)
    with process.open("odd", odd(folder, "fine"), threads=1) as program:
        with pytest.raises(ProgramRefused, match="IndexError"):
            program.run([])
        program.run([np.zeros(1)])
    assert process.pid == pid is not None


@pytest.mark.parametrize(
    ("word", "seconds", "reason"),
    [
        ("crash", 120, "it crashed the process that opened it"),
        ("hang", 1.0, "it took longer than 1 seconds to open or to run"),
    ],
)
def test_a_program_that_crashes_or_hangs_is_told_and_the_next_one_opens(
    process, folder, word, seconds, reason
):
    with process.open("odd", odd(folder, "fine"), threads=1) as program:
        program.run([np.zeros(1)])  # it has begun: what follows takes no time, or hangs
    before = process.pid
    process._call_seconds = seconds
    with pytest.raises(ChildLost) as lost:
        process.open("odd", odd(folder, word), threads=1)
    assert lost.value.reason == reason
    assert not psutil.pid_exists(before)
    process._call_seconds = 120
    with process.open("odd", odd(folder, "fine"), threads=1) as program:
        program.run([np.zeros(1)])
    assert process.pid != before


def test_a_process_that_ended_between_two_programs_is_started_again(process, folder):
    process.start()
    psutil.Process(process.pid).kill()
    psutil.wait_procs([psutil.Process(process.pid)], timeout=10)
    with process.open("odd", odd(folder, "fine"), threads=1) as program:
        program.run([np.zeros(1)])


def test_a_plugin_that_needs_a_module_beside_the_recipe_is_refused(tmp_path):
    (tmp_path / "needy.py").write_text("import beside_the_recipe")
    process = CleanProcess(tmp_path / "log", [tmp_path / "needy.py"])
    try:
        with pytest.raises(ProgramRefused, match=r"needy.py cannot be imported.*beside_the_recipe"):
            process.open("odd", odd(tmp_path, "fine"), threads=1)
    finally:
        process.kill()


def test_it_ends_with_the_process_that_started_it(tmp_path):
    code = f"""
import os
from pathlib import Path
from shipway.export.clean_process import CleanProcess
process = CleanProcess(Path({str(tmp_path / "log")!r}))
process.start()
print(process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pid = int(done.stdout)
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_the_cause_of_a_wrapped_error_is_given_without_colours():
    wrapped = RuntimeError("\x1b[96mThis is step 1/3\x1b[0m of exporting")
    wrapped.__cause__ = ValueError("\x1b[1mline 7\x1b[0m of model.py\nmore")
    assert one_line(wrapped) == "ValueError: line 7 of model.py"
    assert os.linesep not in one_line(wrapped)
