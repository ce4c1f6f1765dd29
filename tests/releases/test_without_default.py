"""What is recorded of models without a default version. test_rollout.py has the rest."""

from pathlib import Path

from shipway.engines.state import StateDirectory
from shipway.releases.without_default import note_unrestored, read_unrestored


def test_reasons_are_read_back_until_they_are_removed(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    assert read_unrestored(state) == {}
    note_unrestored(state, "echo", None)
    assert not state.unrestored_file.exists()
    note_unrestored(state, "echo", "Its archive is missing.")
    note_unrestored(state, "cat", "Its archive has changed.")
    assert read_unrestored(state) == {
        "echo": "Its archive is missing.",
        "cat": "Its archive has changed.",
    }
    note_unrestored(state, "echo", None)
    assert read_unrestored(state) == {"cat": "Its archive has changed."}


def test_a_damaged_file_says_nothing(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.unrestored_file.write_text("{")
    assert read_unrestored(state) == {}
