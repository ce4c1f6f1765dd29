"""Runs a load test in a generator process of its own, which keeps gevent and the load out of this
one."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shipway.extras import require_extra
from shipway.loadtest.errors import GeneratorFailed, Interrupted
from shipway.loadtest.load_test import LoadTest
from shipway.loadtest.open_files import check_files
from shipway.loadtest.result import Collector, Progress, Result
from shipway.loadtest.ticks import Tick

COMMAND = (sys.executable, "-m", "shipway.loadtest.generator")
ENDS_WITHIN_S = 5.0
"""How long the generator may take to end once its input is closed."""


def measure(load_test: LoadTest, observe: Callable[[Progress], object] = lambda _: None) -> Result:
    """Runs a load test and calls `observe` once a second while it runs.

    Raises TooFewFiles, or GeneratorFailed if the generator's process ends early. On Ctrl-C it
    raises Interrupted, a KeyboardInterrupt that holds what was measured until then.
    """
    check_files(load_test.load)
    collector = Collector(load_test)
    with generator_process(load_test) as process:
        assert process.stdin and process.stdout
        try:
            for line in process.stdout:
                observe(collector.add(Tick.read(line)))
        except KeyboardInterrupt:
            process.stdin.close()
            for line in process.stdout:
                collector.add(Tick.read(line))
            raise Interrupted(collector.result()) from None
        if not collector.finished:
            raise GeneratorFailed("The load generator stopped before the load test was complete.")
    return collector.result()


@contextmanager
def generator_process(load_test: LoadTest, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A generator that runs a load test. It ends with the block, or with this process.

    Raises GeneratorFailed, with the last line of its error output, if it ended with an error; and
    MissingExtra if Locust is not installed.
    """
    require_extra("bench", "A load test")
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C in a terminal is for this process to handle
        )
        assert process.stdin and process.stdout
        try:
            process.stdin.write(load_test.line())
            process.stdin.flush()
            yield process
        except (BrokenPipeError, GeneratorFailed) as error:
            process.wait(ENDS_WITHIN_S)
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines() or ["nothing"]
            reason = str(error) if isinstance(error, GeneratorFailed) else "It did not start."
            raise GeneratorFailed(
                f"{reason} Its exit code is {process.returncode}; its last message: {lines[-1]}"
            ) from error
        finally:
            process.stdin.close()
            killing = threading.Timer(ENDS_WITHIN_S, process.kill)
            killing.start()
            process.wait()
            killing.cancel()
            process.stdout.close()
