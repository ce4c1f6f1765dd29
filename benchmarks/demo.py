"""A model's load test on a server of its own, on free ports: `make bench`.

python -m benchmarks.demo MAR [what `shipway bench` takes]
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.study import exit_on_sigterm
from shipway.archive.inspect import inspect_mar
from shipway.cli.main import app
from shipway.cli.output import err
from shipway.engines.torchserve.temporary import served_model
from shipway.errors import ShipwayError
from shipway.releases.exporter_process import exporter_command


def main() -> int:
    mar, *arguments = sys.argv[1:]
    info = inspect_mar(Path(mar))
    exit_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as temporary:
        folder = Path(temporary)
        err.print("Starting a server of its own …")
        with served_model(
            folder,
            Path(mar).absolute(),
            workers=info.workers,
            batch_size=info.batch_size,
            delay_ms=info.max_batch_delay_ms,
            exporter_command=exporter_command,
        ):
            given = ["bench", info.name, "--state", str(folder / "state"), *arguments]
            return app(given, standalone_mode=False) or 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ShipwayError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
