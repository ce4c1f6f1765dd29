"""What becomes of a checkpoint, in each form in which people have one."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from shipway.export.checkpoint import load_checkpoint
from shipway.export.errors import CheckpointDoesNotFit, ExportError, UnreadableCheckpoint
from shipway.recipe import Checkpoint
from tests.export.checkpoint_forms import FORMS, Net, load


@pytest.mark.parametrize("name", FORMS)
def test_a_checkpoint_is_loaded_whole_or_refused_with_what_to_do(tmp_path, name):
    form = FORMS[name]
    if form.note is None:
        with pytest.raises(ExportError, match=f"(?s){form.refused}") as refused:
            load(form, tmp_path)
        assert str(tmp_path) in str(refused.value)
        return
    note, source, module = load(form, tmp_path)
    assert note == form.note
    torch.manual_seed(0)
    row = torch.randint(0, 9, (5, 4)) if name.startswith("tied") else torch.randn(5, 4)
    if name.endswith("may be missing") or not isinstance(module, Net):
        return
    with torch.inference_mode():
        expected, found = source.eval()(row), module.eval()(row)
    assert torch.allclose(found, expected, atol=0.02 if "float16" in name else 1e-6)


def test_what_may_be_missing_keeps_the_modules_own_values(tmp_path):
    _, source, module = load(FORMS["without a head, which may be missing"], tmp_path)
    torch.manual_seed(2)
    assert torch.equal(module.head.weight, Net().head.weight)
    assert torch.equal(module.features[0].weight, source.features[0].weight)


def test_tied_weights_stay_tied(tmp_path):
    _, source, module = load(FORMS["tied weights in safetensors"], tmp_path)
    assert module.out.weight is module.embed.weight
    assert torch.equal(module.embed.weight, source.embed.weight)


def test_older_weight_norm_has_the_same_weights(tmp_path):
    _, source, module = load(FORMS["weight norm of older torch"], tmp_path)
    row = torch.randn(2, 4)
    assert torch.allclose(module.layer(row), source.layer(row), atol=1e-6)


def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path):
    torch.save(Net(5).state_dict(), tmp_path / "w.pth")
    module = Net()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(CheckpointDoesNotFit):
        load_checkpoint(module, tmp_path / "w.pth", Checkpoint())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was run",))


@pytest.mark.parametrize("content", [Trap(), {"state_dict": {}, "meta": Trap()}])
def test_no_object_is_unpickled(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(content))
    for name in ("w.pth", "bare.pth"):
        with pytest.raises(UnreadableCheckpoint, match="was not loaded, because unpickling can"):
            load_checkpoint(nn.Linear(1, 1), tmp_path / name, Checkpoint())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 300])
def test_a_checkpoint_cut_short_is_refused(tmp_path, suffix, kept):
    form = FORMS["safetensors" if suffix == "safetensors" else "state_dict"]
    path = form.write(Net(), tmp_path) or Path(tmp_path / "w.pth")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UnreadableCheckpoint, match=r"w\."):
        load_checkpoint(Net(), path, Checkpoint())
