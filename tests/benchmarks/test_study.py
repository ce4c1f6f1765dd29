"""What studies share: their targets, their last line and their exit code."""

import json
import signal
import subprocess
import sys

import pytest

from benchmarks.study import at_least, at_most, closed_loop, finish, summary
from shipway.engines.torchserve.temporary import ServedModel
from tests.conftest import REPOSITORY
from tests.loadtest.http_server import noting_server


@pytest.mark.parametrize(
    ("outcome", "met"),
    [
        (at_least(5.5, 5.5), True),
        (at_least(5.4, 5.5), False),
        (at_most(0, 0), True),
        (at_most(0.011, 0.01), False),
        (at_least(None, 1), False),
        (at_most(None, 1), False),
    ],
)
def test_a_target_is_met_at_its_bound_and_missed_beyond_it_or_without_a_figure(outcome, met):
    assert outcome.met is met


def test_the_last_line_counts_targets_and_lists_each():
    outcomes = {"rate": at_least(6.2, 5.5), "errors": at_most(3, 0)}
    assert summary(outcomes) == {
        "met": 1,
        "of": 2,
        "targets": {
            "rate": {"reached": 6.2, "target": ">= 5.5", "met": True},
            "errors": {"reached": 3, "target": "<= 0", "met": False},
        },
    }


@pytest.mark.parametrize(("reached", "code"), [(2.0, 0), (0.5, 1)])
def test_a_study_ends_with_json_and_an_exit_code(capsys, reached, code):
    with pytest.raises(SystemExit) as ended:
        print("a table")
        finish({"rate": at_least(reached, 1.0)})
    assert ended.value.code == code
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["met"], last["of"]) == (1 - code, 1)


def test_sigterm_unwinds_a_study():
    code = (
        "import time; from benchmarks.study import exit_on_sigterm; exit_on_sigterm()\n"
        "try:\n    print('ready', flush=True); time.sleep(60)\n"
        "finally:\n    print('unwound', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=60)[0] == "unwound\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_a_closed_loop_sends_the_bodies_in_turn_and_counts_answers():
    with noting_server() as server:
        model = ServedModel(url=server.url, headers={}, process=0)
        result = closed_loop(model, [b"a", b"bb"], 2, 0.5, warm_up_s=0.1)
    assert 0 < result.answered <= len(server.moments) and not result.failed
