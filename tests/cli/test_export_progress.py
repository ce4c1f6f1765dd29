"""What `shipway export` shows while it works."""

import pytest
from rich.console import Console

from shipway.cli.export_progress import ShownSteps


def test_a_step_is_a_line_with_what_it_found_and_its_time(capsys):
    with ShownSteps(Console(width=100)) as steps, steps.step("building [int8]") as step:
        step.note("3 of 4 passed")
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("✓ building [int8]  3 of 4 passed  ")
    assert line.endswith(" s")


def test_a_step_that_fails_is_marked_and_its_error_goes_on(capsys):
    with (
        ShownSteps(Console(width=100)) as steps,
        pytest.raises(ValueError, match="broken"),
        steps.step("building"),
    ):
        raise ValueError("broken")
    assert capsys.readouterr().out.startswith("✗ building  ")
