"""What becomes of a checkpoint, in each form in which people have one."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model

from shipway.export.checkpoint import load_checkpoint
from shipway.export.errors import CheckpointDoesNotFit, ExportError, UnreadableCheckpoint
from shipway.recipe import Checkpoint
from tests.export.checkpoint_forms import FORMS, Net, Tied, load


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


class Versioned(nn.Module):
    """A layer whose older checkpoints hold the logarithm of its scale."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(2))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *others):
        if (local_metadata.get("version") or 1) < 2:
            state_dict[prefix + "scale"] = state_dict[prefix + "scale"].exp()
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda module: module, ""),
        (nn.DataParallel, "without `module.`"),
        (lambda module: nn.ModuleDict({"net": nn.ModuleDict({"a": module})}), "without `net.a.`"),
    ],
)
def test_the_version_of_each_modules_layout_is_kept(tmp_path, wrap, note):
    source = Versioned()
    nn.init.constant_(source.scale, 3.0)
    torch.save({"model": wrap(source).state_dict()}, tmp_path / "w.pth")
    module = Versioned()
    assert load_checkpoint(module, tmp_path / "w.pth", Checkpoint()) == ", ".join(
        ["from `model`", *([note] if note else [])]
    )
    assert module.scale.tolist() == [3.0, 3.0]


def test_what_torchvision_refuses_without_a_version_is_loaded(tmp_path):
    source = get_model("mnasnet0_5")
    torch.save(source.state_dict(), tmp_path / "w.pth")
    module = get_model("mnasnet0_5")
    assert load_checkpoint(module, tmp_path / "w.pth", Checkpoint()) == ""
    assert torch.equal(module.layers[0].weight, source.layers[0].weight)


class Transposed(nn.Module):
    """Two parameters in one memory, of which neither is the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(2, 2))
        self.b = nn.Parameter(self.a.data.t())


class Resized(nn.Module):
    """A buffer that takes the size of the checkpoint's."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(0))

    def _load_from_state_dict(self, state_dict, prefix, *others):
        self.seen = torch.zeros_like(state_dict[prefix + "seen"])
        super()._load_from_state_dict(state_dict, prefix, *others)


class Expanded(nn.Module):
    """A buffer whose numbers are one in memory, which torch cannot load into."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("same", torch.zeros(1, 1).expand(3, 1))


def test_a_buffer_may_take_the_size_of_the_checkpoints(tmp_path):
    torch.save({"seen": torch.arange(5.0)}, tmp_path / "w.pth")
    module = Resized()
    load_checkpoint(module, tmp_path / "w.pth", Checkpoint())
    assert module.seen.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("module", "state", "settings", "says"),
    [
        (Transposed, {"a": torch.ones(2, 2)}, {}, r"1 missing \(b\)"),
        (Expanded, {"same": torch.ones(3, 1)}, {}, "load_state_dict refuses it"),
        (lambda: nn.LazyLinear(2), {"weight": torch.ones(2, 2)}, {}, "has no shape yet"),
        (lambda: nn.Linear(2, 2, device="meta"), {}, {}, "has no values"),
        (
            Tied,
            {"embed.weight": torch.zeros(10, 4), "out.weight": torch.ones(10, 4)},
            {},
            "embed.weight and out.weight differ, and are one tensor",
        ),
        (
            lambda: nn.Linear(1, 1),
            {"a.weight": torch.ones(1, 1), "b.weight": torch.zeros(1, 1)},
            {"rename": {r"^[ab]\.": ""}},
            "give two tensors of .* the name weight",
        ),
        (
            lambda: nn.Linear(1, 1),
            {"weight": torch.ones(1, 1), "bias": torch.ones(1)},
            {"prefix": "zz.", "missing": ("bias", "weight")},
            "does not match Linear",
        ),
        (
            lambda: nn.ModuleDict({"decoder": nn.Linear(1, 1)}),
            {"encoder.weight": torch.ones(1, 1), "encoder.bias": torch.ones(1)},
            {},
            "2 missing .*2 unexpected",
        ),
        (
            lambda: nn.Linear(1, 1, bias=False),
            {"weight": torch.full((1, 1), 1j)},
            {},
            "weight is torch.complex64, and the module's torch.float32",
        ),
        (
            lambda: nn.Linear(1, 1, bias=False),
            {"weight": torch.full((1, 1), 127, dtype=torch.int8)},
            {},
            "weight is torch.int8, and the module's torch.float32",
        ),
        (
            lambda: nn.BatchNorm1d(1),
            nn.BatchNorm1d(1).state_dict() | {"num_batches_tracked": torch.tensor(0.5)},
            {},
            "num_batches_tracked has fractions",
        ),
        (
            lambda: nn.Linear(1, 1, bias=False),
            {
                "state_dict": {"other": torch.ones(1)},
                "ema_grad_norm": {"weight": torch.ones(1, 1)},
                "optimizer": {"exp_avg": {"weight": torch.ones(1, 1)}},
            },
            {},
            "1 missing .*1 unexpected",
        ),
        (
            lambda: nn.Linear(1, 1, bias=False),
            {"a.b": {"weight": torch.ones(1, 1)}, "a": {"b": {"weight": torch.zeros(1, 1)}}},
            {},
            "two entries 'a.b'",
        ),
    ],
)
def test_what_would_be_loaded_wrongly_is_refused(tmp_path, module, state, settings, says):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ExportError, match=f"(?s){says}"):
        load_checkpoint(module(), tmp_path / "w.pth", Checkpoint(**settings))


def test_of_a_tensor_in_two_shards_the_one_that_the_index_names_is_loaded(tmp_path):
    for name, value in (("one", 1.0), ("two", 0.0)):
        save_file({"weight": torch.full((1, 1), value)}, tmp_path / f"{name}.safetensors")
    save_file({"bias": torch.ones(1), "weight": torch.zeros(1, 1)}, tmp_path / "two.safetensors")
    index = {"weight_map": {"weight": "one.safetensors", "bias": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    module = nn.Linear(1, 1)
    load_checkpoint(module, tmp_path, Checkpoint())
    assert module.weight.item() == 1.0
