import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipway.engines.torchserve import template
from tests.servers import until


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a template."""
    path = tmp_path_factory.mktemp("template") / "template.sock"
    with subprocess.Popen([sys.executable, "-P", template.__file__, str(path)]) as process:
        until(path.exists, 60)
        yield path
        process.kill()
