"""`shipway export`: what it refuses before it starts."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from shipway.cli.export import print_outcome
from shipway.cli.main import app
from shipway.errors import ShipwayError
from tests.cli.conftest import unboxed


@pytest.mark.parametrize("arguments", [[], ["recipe.py", "--rechoose", "artifact"]])
def test_either_a_recipe_or_an_artifact_is_needed(arguments):
    result = CliRunner().invoke(app, ["export", *arguments])
    assert result.exit_code == 2
    assert "Give either a RECIPE or --rechoose ARTIFACT." in unboxed(result.output)


def test_overwrite_is_refused_when_the_programs_of_an_artifact_are_chosen_again():
    result = CliRunner().invoke(app, ["export", "--rechoose", "artifact", "--overwrite"])
    assert result.exit_code == 2
    assert "--overwrite cannot be combined with --rechoose." in unboxed(result.output)


def test_a_budget_below_zero_is_refused():
    result = CliRunner().invoke(app, ["export", "recipe.py", "--accuracy-budget", "-1"])
    assert result.exit_code == 2 and "--accuracy-budget" in result.output


def test_a_recipe_that_does_not_read_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("recipe = (")
    result = CliRunner().invoke(app, ["export", str(tmp_path / "broken.py")])
    assert isinstance(result.exception, ShipwayError)
    assert "broken.py" in str(result.exception)


@pytest.mark.parametrize(("basis", "is_said"), [("quiet runs", False), ("processor time", True)])
def test_the_first_line_says_that_the_machine_was_not_quiet(tiny, capsys, basis, is_said):
    update = {"basis": basis, "quiet_runs": 3}
    eager = {
        shape: {threads: one.model_copy(update=update) for threads, one in by_threads.items()}
        for shape, by_threads in tiny.certificate.eager.items()
    }
    chosen = tiny.certificate.candidates[tiny.manifest.chosen]
    quiet = chosen.model_copy(
        update={
            "latency": {
                shape: {
                    n: one.model_copy(update={"basis": "quiet runs"}) for n, one in each.items()
                }
                for shape, each in chosen.latency.items()
            }
        }
    )
    candidates = tiny.certificate.candidates | {tiny.manifest.chosen: quiet}
    certificate = tiny.certificate.model_copy(update={"eager": eager, "candidates": candidates})
    print_outcome(replace(tiny, certificate=certificate))
    first = capsys.readouterr().out.strip().splitlines()[0]
    assert first.startswith("disturbed The machine was not quiet") == is_said
