import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import nn

from export.training import digits, libraries, tabular
from export.training.loop import Schedule, evaluate, first, fit, save, split_rows
from shipway.recipe import Rows

REPOSITORY = Path(__file__).parents[2]
BRIEF = Schedule(epochs=3, batch_size=16, learning_rate=0.01, weight_decay=0.01, seed=0)


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Two classes that one feature tells apart, more or less."""
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 400)
    features = random.normal(size=(400, 3)).astype(np.float32)
    features[:, 1] += 3 * targets
    return Rows((features,), targets)


@pytest.mark.parametrize("training", [digits, tabular])
def test_no_row_is_in_two_parts_and_none_is_lost(training):
    parts = training.split()
    rows = [
        row.tobytes()
        for part in (parts.train, parts.validation, parts.test)
        for row in part.arrays[0]
    ]
    assert len(set(rows)) == len(rows) == {digits: 1797, tabular: 569}[training]


@pytest.mark.parametrize("training", [digits, tabular])
def test_every_part_has_the_same_share_of_every_class(training):
    parts = training.split()
    shares = [
        np.bincount(part.targets) / len(part)
        for part in (parts.train, parts.validation, parts.test)
    ]
    assert np.abs(shares[0] - shares[1]).max() < 0.02
    assert np.abs(shares[0] - shares[2]).max() < 0.02


@pytest.mark.parametrize("enlarged", [1, 10])
def test_a_digits_pixels_are_its_levels_of_ink(enlarged):
    levels = load_digits().images[:1]
    (pixels,) = digits.served(Rows((levels,)), enlarged).arrays
    assert pixels.shape == (1, 32, 32, 3)
    assert (pixels[..., :1] == pixels).all()  # grey
    shrunk = pixels[0, ..., 0].reshape(8, 4, 8, 4).mean((1, 3)) / 255 * 16
    assert np.corrcoef(shrunk.ravel(), levels.ravel())[0, 1] > 0.97


def test_shifting_moves_every_image_as_a_whole_and_brings_in_black():
    pixels = torch.full((50, 32, 32, 3), 200, dtype=torch.uint8)
    moved = digits.shifted(pixels, torch.Generator().manual_seed(0))
    assert moved.shape == pixels.shape
    assert set(moved.unique().tolist()) == {0, 200}
    kept = (moved[..., 0] > 0).sum((1, 2))
    assert int(kept.min()) >= 28 * 28
    assert len(kept.unique()) > 5


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(rows, tmp_path):
    parts = split_rows(rows, validation=0.2, test=0.2, seed=0)

    def trained(name: str, seed: int) -> bytes:
        result = fit(
            lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)),
            parts,
            replace(BRIEF, seed=seed),
        )
        save(result.state, tmp_path / name, Console(quiet=True))
        return (tmp_path / name).read_bytes()

    assert trained("a.safetensors", 0) == trained("b.safetensors", 0)
    assert trained("c.safetensors", 1) != trained("a.safetensors", 0)


def test_training_digits_again_gives_the_same_weights_whatever_the_threads():
    brief = replace(digits.SCHEDULE, epochs=1)
    before = torch.get_num_threads()
    states = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            states.append(digits.train(brief))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert states[0].keys() == digits.Digits().state_dict().keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_training_leaves_the_callers_random_numbers_and_settings_alone(rows):
    parts = split_rows(rows, validation=0.2, test=0.2, seed=0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(lambda: nn.Linear(3, 2), parts, BRIEF)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_best_validation_epoch_is_the_one_kept(rows):
    """Here the first: afterwards the rate is so high that the weights fly apart."""
    parts = split_rows(rows, validation=0.2, test=0.2, seed=0)
    module = nn.Linear(3, 2)
    wild = replace(BRIEF, epochs=5, learning_rate=300.0)
    result = fit(lambda: module, parts, wild)
    module.load_state_dict(result.state)
    assert evaluate(module, parts.validation)[0] == result.validation
    assert evaluate(module, parts.test)[0] == result.test


def test_a_learnable_table_is_learned(rows):
    parts = split_rows(rows, validation=0.2, test=0.2, seed=0)
    result = fit(lambda: nn.Linear(3, 2), parts, replace(BRIEF, epochs=40))
    assert result.test.value > 0.85
    assert result.test.low < result.test.value < result.test.high


def test_a_sample_to_calibrate_with_has_no_targets(rows):
    sample = first(rows, 7)
    assert (len(sample), sample.targets) == (7, None)


def test_the_tables_scaling_is_in_its_checkpoint():
    state = load_file(tabular.CHECKPOINT)
    features = torch.from_numpy(tabular.split().train.arrays[0])
    assert torch.allclose(state["mean_F"], features.mean(0))
    assert torch.allclose(state["std_F"], features.std(0))


@pytest.mark.parametrize("training", [digits, tabular, libraries])
def test_the_committed_weights_are_small(training):
    assert training.CHECKPOINT.stat().st_size < 1_200_000


def test_a_passage_is_in_one_part_alone_and_no_class_is_left_out():
    parts = libraries.split()
    rows = [
        row.tobytes()
        for part in (parts.train, parts.validation, parts.test)
        for row in part.arrays[0]
    ]
    assert len(set(rows)) == len(rows)
    for part in (parts.train, parts.validation, parts.test):
        assert set(part.targets) == {0, 1, 2, 3}
        assert part.arrays[1].any(axis=1).all()


def test_the_command_trains_says_how_well_and_saves(tmp_path):
    out = tmp_path / "new" / "table.safetensors"
    done = subprocess.run(
        [sys.executable, "-m", "export.training.tabular", "--out", out],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "test accuracy 9" in done.stdout
    assert "95% interval" in done.stdout
    assert load_file(out).keys() == load_file(tabular.CHECKPOINT).keys()
    assert [each.name for each in out.parent.iterdir()] == [out.name]
