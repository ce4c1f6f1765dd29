"""Runs a plan in a generator's process of its own: gevent's patches and the load stay there."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shipway.loadtest.errors import GeneratorFailed, Interrupted
from shipway.loadtest.load_test import LoadTest
from shipway.loadtest.result import Collector, Progress, Result
from shipway.loadtest.ticks import Tick

COMMAND = (sys.executable, "-m", "shipway.loadtest.generator")
ENDS_WITHIN_S = 5.0
"""Once its input is closed."""


def measure(plan: LoadTest, watch: Callable[[Progress], object] = lambda _: None) -> Result:
    """Puts the plan's load on its server, and tells `watch` once a second how it goes.

    Raises GeneratorFailed if the generator's process ends early, and for Ctrl-C Interrupted, which
    is a KeyboardInterrupt that holds what was measured until then.
    """
    collector = Collector(plan)
    with generator_process(plan) as process:
        assert process.stdin and process.stdout
        try:
            for line in process.stdout:
                watch(collector.add(Tick.read(line)))
        except KeyboardInterrupt:
            process.stdin.close()
            for line in process.stdout:
                collector.add(Tick.read(line))
            raise Interrupted(collector.result()) from None
        if not collector.finished:
            raise GeneratorFailed("The load generator ended before the load did.")
    return collector.result()


@contextmanager
def generator_process(plan: LoadTest, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The generator at work on a plan. It ends with this block, and with this process.

    Raises GeneratorFailed with its last words if it ended by itself with an error.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,  # a terminal's Ctrl-C is this process's to hear
        )
        assert process.stdin and process.stdout
        try:
            process.stdin.write(plan.model_dump_json().encode() + b"\n")
            process.stdin.flush()
            yield process
        except (BrokenPipeError, GeneratorFailed) as error:
            process.wait(ENDS_WITHIN_S)
            said.seek(0)
            words = said.read().decode(errors="replace").strip().splitlines() or ["nothing"]
            raise GeneratorFailed(
                f"{error if isinstance(error, GeneratorFailed) else 'It did not start.'} The load "
                f"generator's exit code is {process.returncode}, and it said: {words[-1]}"
            ) from error
        finally:
            process.stdin.close()
            killing = threading.Timer(ENDS_WITHIN_S, process.kill)
            killing.start()
            process.wait()
            killing.cancel()
            process.stdout.close()
