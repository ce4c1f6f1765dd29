"""Where commands print."""

import json
import os
import subprocess
import sys

import pytest
from rich.table import Table

from shipway.cli.output import figures, lines, out, print_json, warn


def test_brackets_in_names_are_printed_as_they_are(capsys):
    out.print("model [bold]x[/] /tmp/[red].mar")
    assert capsys.readouterr().out == "model [bold]x[/] /tmp/[red].mar\n"


def test_remarks_go_to_standard_error(capsys):
    warn("take care")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "take care\n")


def test_json_is_printed_whole_however_long_its_lines(capsys):
    value = {"text": "ü" * 500, "list": [1, None]}
    print_json(value)
    assert json.loads(capsys.readouterr().out) == value


def test_a_row_of_a_long_table_stays_on_one_line(capsys):
    table = Table("a", "b", box=None)
    table.add_row("x" * 300, "y" * 300)
    lines.print(table)
    assert any("x" * 300 in row and "y" * 300 in row for row in capsys.readouterr().out.split("\n"))


def test_figures_keep_their_columns_in_a_pipe():
    code = (
        "from rich.table import Table; from shipway.cli.output import figures\n"
        "table = Table(box=None)\n"
        "for number in range(12): table.add_column(f'column {number}')\n"
        "figures.print(table)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert all(f"column {number}" in done.stdout.split("\n")[0] for number in range(12))
    assert not figures.is_terminal or figures.width


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_output_will_do(encoding):
    code = (
        "from shipway.cli.output import lines, out, print_any_text, print_json\n"
        "print_any_text()\n"
        "out.print('● 2 × 3 – naïve … \\udc80'); lines.print('✓ 漢')\n"
        "print_json({'label': 'é漢'})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    text, ticked, *told = done.stdout.decode(encoding).splitlines()
    assert json.loads("\n".join(told)) == {"label": "é漢"}
    expected = {
        "ascii": ("* 2 x 3 - na?ve ... ?", "+ ?"),
        "latin-1": ("* 2 × 3 - naïve ... ?", "+ ?"),
        "utf-8": ("● 2 × 3 – naïve … ?", "✓ 漢"),
    }
    assert (text, ticked) == expected[encoding]
