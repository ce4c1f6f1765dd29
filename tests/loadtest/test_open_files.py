"""Connections are open files, of which a process may have only so many."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shipway.loadtest.errors import TooFewFiles
from shipway.loadtest.open_files import check_files
from shipway.loadtest.runner import measure
from shipway.loadtest.shapes.closed import ClosedLoop
from shipway.loadtest.shapes.open import OpenLoop
from tests.loadtest.http_server import noting_server


@contextmanager
def at_most(files: int) -> Iterator[None]:
    """Lets this process, and those that it starts, have so many files open unless they raise their
    own limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_clients_than_a_process_may_have_connections_are_refused_before_the_load():
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))\n"
        "from shipway.loadtest.open_files import check_files\n"
        "from shipway.loadtest.shapes.closed import ClosedLoop\n"
        "check_files(ClosedLoop(clients=50)); check_files(ClosedLoop(clients=51))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert TooFewFiles.__name__ in done.stderr
    assert "51 clients need 151 open files, and this process may have 150" in done.stderr


def test_a_load_without_clients_at_its_start_is_not_refused():
    check_files(OpenLoop(rate=10.0))


def test_the_generator_raises_its_own_limit_for_its_clients(planned):
    allowed = len([*Path("/proc/self/fd").iterdir()]) + 100  # what the tests before have open, too
    clients = allowed + 50
    with noting_server() as server, at_most(allowed):
        result = measure(planned(ClosedLoop(clients=clients), "a", url=server.url, seconds=1))
    assert not result.errors and result.answered >= clients
