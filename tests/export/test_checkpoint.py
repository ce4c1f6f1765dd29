import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shipway.export.checkpoint import load_weights, read_state_dict
from shipway.export.errors import CheckpointDoesNotFit, UnreadableCheckpoint


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {f"module.{key}": value for key, value in state.items()},
    ],
)
def test_a_state_dict_is_found_however_training_wrapped_it(module, tmp_path, wrap):
    torch.save(wrap(module.state_dict()), tmp_path / "w.pth")
    assert equal(read_state_dict(tmp_path / "w.pth"), module.state_dict())


def test_safetensors_hold_the_same(module, tmp_path):
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    assert equal(read_state_dict(tmp_path / "w.safetensors"), module.state_dict())


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was run",))


@pytest.mark.parametrize("content", [lambda module: module, lambda module: Trap()])
def test_a_pickled_object_is_refused_unrun_with_how_to_convert_it(module, tmp_path, content):
    torch.save(content(module), tmp_path / "w.pth")
    with pytest.raises(UnreadableCheckpoint, match=r"torch\.save\(model\.state_dict"):
        read_state_dict(tmp_path / "w.pth")


def test_a_bare_pickle_is_refused_unrun(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UnreadableCheckpoint):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [([1, 2], "contains a list"), ({}, "contains a dict"), ({"a": 1}, "not tensors: a")],
)
def test_what_is_no_state_dict_is_called_what_it_is(tmp_path, content, complaint):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UnreadableCheckpoint, match=complaint):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 300])
def test_a_checkpoint_cut_short_is_refused(module, tmp_path, name, kept):
    path = tmp_path / name
    if name.endswith("pth"):
        torch.save(module.state_dict(), path)
    else:
        save_file(module.state_dict(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UnreadableCheckpoint, match=r"w\."):
        read_state_dict(path)


def test_a_checkpoint_that_is_not_there_is_called_that(tmp_path):
    with pytest.raises(UnreadableCheckpoint, match="There is no checkpoint"):
        read_state_dict(tmp_path / "w.pth")


def test_what_does_not_fit_is_named_missing_unexpected_and_misshapen(module, tmp_path):
    state = module.state_dict()
    state["0.weight"] = torch.zeros(4, 5)
    state["head.bias"] = state.pop("0.bias")
    with pytest.raises(CheckpointDoesNotFit) as caught:
        load_weights(module, state, tmp_path / "w.pth")
    for part in (
        "1 missing (0.bias)",
        "1 unexpected (head.bias)",
        "0.weight (4, 5), expected (4, 3)",
        "which has 7 tensors",
    ):
        assert part in str(caught.value)


def test_what_fits_is_loaded(module, tmp_path):
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    load_weights(other, module.state_dict(), tmp_path / "w.pth")
    assert equal(other.state_dict(), module.state_dict())
