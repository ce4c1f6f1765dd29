"""Where commands print: standard output for results, standard error for everything else."""

import codecs
import io
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


PLAIN_SIGNS = {"●": "*", "✓": "+", "✗": "x", "×": "x", "⚠": "!", "–": "-", "…": "..."}
"""What is printed where the encoding of the output lacks a sign."""


def print_any_text() -> None:
    """Lets characters that the encoding of an output lacks be printed as others, where Python would
    end the command: `LC_ALL=C` or PYTHONIOENCODING may ask for ASCII."""
    codecs.register_error("shipway.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="shipway.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN_SIGNS.get(each, "?") for each in lacking), error.end


def json_text(value: object, indent: int | None = None) -> str:
    """A value as JSON, which says the same in whatever encoding it is printed."""
    encoding = sys.stdout.encoding or "ascii"
    return json.dumps(value, indent=indent, ensure_ascii=not encoding.lower().startswith("utf"))


def print_json(value: object) -> None:
    """Prints a value as indented JSON, without colours and without line wrapping."""
    print(json_text(value, indent=2))
