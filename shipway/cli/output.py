"""Where commands print: standard output for results, standard error for everything else."""

import json
import sys

from rich.console import Console

# Without markup: a file or a model may have [brackets] in its name.
out = Console(highlight=False, soft_wrap=True, markup=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

lines = Console(highlight=False, markup=False, width=1000)
"""For tables whose rows must stay on one line each."""

# A pipe or a file has no width; rich's 80 columns would cut the figures of a wide table.
figures = Console(
    highlight=False, soft_wrap=True, markup=False, width=None if sys.stdout.isatty() else 140
)
"""For wide tables of measurements."""


def warn(remark: str) -> None:
    """Prints a remark that does not stop the command."""
    err.print(remark, style="yellow")


def print_json(value: object) -> None:
    """Prints a value as indented JSON, without colours and without line wrapping."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
