"""Forms in which people have their checkpoints, each written to a file as its tool writes it.

python -m tests.export.checkpoint_forms prints what becomes of each.
"""

import argparse
import collections
import copy
import datetime
import gzip
import json
import pickle
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from shipway.export.checkpoint import load_checkpoint
from shipway.export.errors import ExportError
from shipway.recipe import Checkpoint

State = dict[str, Tensor]


class Net(nn.Module):
    """A network with batch norm, which counts, and a head."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4) to (B, classes)."""
        return self.head(self.features(x))


class Tied(nn.Module):
    """A network whose first and last layer share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.out = nn.Linear(4, 10, bias=False)
        self.out.weight = self.embed.weight


class Stateful(Net):
    """A network with a state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def get_extra_state(self) -> dict[str, int]:
        """For its state_dict."""
        return {"steps": self.steps}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """From its state_dict."""
        self.steps = state["steps"]


class Normed(nn.Module):
    """A layer with weight norm, as torch writes it today."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = parametrizations.weight_norm(nn.Linear(4, 3))


class OldNormed(nn.Module):
    """The same, as torch wrote it before 2.0."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = weight_norm(nn.Linear(4, 3))


@dataclass(frozen=True, slots=True)
class Form:
    """One form."""

    write: Callable[[nn.Module, Path], Path | None]
    """Writes a module's weights into an empty folder; None for the file `w.pth` in it."""
    note: str | None = ""
    """What the export says of it; None if it is refused."""
    refused: str = ""
    """A regular expression of the refusal."""
    module: Callable[[], nn.Module] = Net
    """What the weights are loaded into."""
    source: Callable[[], nn.Module] | None = None
    """What they come from, if not the same."""
    settings: Checkpoint = field(default_factory=Checkpoint)


def saved(make: Callable[[nn.Module], object], **options: Any) -> Callable[[nn.Module, Path], None]:
    """A file of `torch.save`."""

    def write(module: nn.Module, folder: Path) -> None:
        torch.save(make(module), folder / "w.pth", **options)

    return write


def states(make: Callable[[State], object]) -> Callable[[nn.Module, Path], None]:
    """A file of `torch.save`, of what is made of the state_dict."""
    return saved(lambda module: make(module.state_dict()))


def prefixed(prefix: str) -> Callable[[State], State]:
    """The state_dict with other names."""
    return lambda state: {prefix + name: value for name, value in state.items()}


def other(state: State) -> State:
    """Tensors of the same shapes, with other values."""
    return {name: value + 1 for name, value in state.items()}


def _safetensors(module: nn.Module, folder: Path) -> Path:
    save_file(module.state_dict(), folder / "w.safetensors", metadata={"format": "pt"})
    return folder / "w.safetensors"


def _tied_safetensors(module: nn.Module, folder: Path) -> Path:
    state = module.state_dict()
    del state["out.weight"]  # as save_model of safetensors does
    save_file(state, folder / "w.safetensors")
    return folder / "w.safetensors"


def _shards(
    suffix: str, *, index: bool = True, lost: str = ""
) -> Callable[[nn.Module, Path], Path]:
    """Two shards with an index, as `save_pretrained` writes them."""

    def write(module: nn.Module, folder: Path) -> Path:
        items = list(module.state_dict().items())
        name = "model" if suffix == "safetensors" else "pytorch_model"
        places: dict[str, str] = {}
        for number, part in enumerate((items[:3], items[3:]), 1):
            file = f"{name}-0000{number}-of-00002.{suffix}"
            if suffix == "safetensors":
                save_file(dict(part), folder / file)
            else:
                torch.save(dict(part), folder / file)
            places |= {key: file for key, _ in part}
        at = folder / f"{name}.{suffix}.index.json"
        at.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
        if lost:
            (folder / f"{name}-{lost}.{suffix}").unlink()
        return at if index else folder

    return write


def _index(text: str) -> Callable[[nn.Module, Path], Path]:
    def write(_: nn.Module, folder: Path) -> Path:
        at = folder / "model.safetensors.index.json"
        at.write_text(text)
        return at

    return write


def _in_folder(*names: str) -> Callable[[nn.Module, Path], Path]:
    def write(module: nn.Module, folder: Path) -> Path:
        for name in names:
            torch.save(module.state_dict(), folder / name)
        (folder / "config.json").write_text("{}")
        return folder

    return write


def _content(content: bytes, name: str = "w.pth") -> Callable[[nn.Module, Path], Path]:
    def write(_: nn.Module, folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _torchscript(module: nn.Module, folder: Path) -> None:
    torch.jit.save(torch.jit.trace(module.eval(), torch.zeros(2, 4)), folder / "w.pth")


def _exported(module: nn.Module, folder: Path) -> Path:
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(2, 4),)), folder / "w.pt2")
    return folder / "w.pt2"


def _tar(module: nn.Module, folder: Path) -> Path:
    torch.save(module.state_dict(), folder / "w.pth")
    with tarfile.open(folder / "w.tar.gz", "w:gz") as archive:
        archive.add(folder / "w.pth", "w.pth")
    return folder / "w.tar.gz"


def _cut(module: nn.Module, folder: Path) -> None:
    torch.save(module.state_dict(), folder / "w.pth")
    whole = (folder / "w.pth").read_bytes()
    (folder / "w.pth").write_bytes(whole[: len(whole) // 2])


def _averaged(module: nn.Module) -> object:
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.update_parameters(module)
    return average.state_dict()


def _lightning(state: State) -> dict[str, object]:
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": prefixed("model.")(state),
        "loops": {},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [
            {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(8, 4)}}}
        ],
        "lr_schedulers": [{"last_epoch": 3}],
        "hyper_parameters": {"lr": 0.1},
    }


def _trained(state: State) -> dict[str, object]:
    """As many training scripts save it, with values of NumPy and of argparse."""
    return {
        "epoch": np.int64(3),
        "best_acc": np.float64(0.9),
        "history": np.zeros(3, np.float32),
        "args": argparse.Namespace(lr=0.1, folder=Path("data")),
        "model": state,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(8, 4)}}, "param_groups": [{"lr": 0.1}]},
        "scaler": {"scale": 65536.0},
        "rng": torch.get_rng_state(),
    }


def _without_counters(state: State) -> State:
    return {name: value for name, value in state.items() if "num_batches" not in name}


def _in_entry(name: str, state: State) -> dict[str, object]:
    return {name: state, "epoch": 3}


def _compiled(module: nn.Module) -> State:
    compiled = torch.compile(module)
    assert isinstance(compiled, nn.Module)
    return compiled.state_dict()


def _compiled_inside(state: State) -> State:
    return {name.replace("features.", "features._orig_mod."): x for name, x in state.items()}


FORMS: Mapping[str, Form] = {
    "state_dict": Form(states(dict)),
    "state_dict in torch's older format": Form(
        saved(lambda module: module.state_dict(), _use_new_zipfile_serialization=False)
    ),
    "state_dict of parameters": Form(
        saved(lambda m: dict(m.named_parameters()) | dict(m.named_buffers()))
    ),
    "OrderedDict": Form(states(collections.OrderedDict)),
    "safetensors": Form(_safetensors),
    "float16": Form(states(lambda s: {k: v.half() for k, v in s.items()})),
    "bfloat16": Form(states(lambda s: {k: v.bfloat16() for k, v in s.items()})),
    "float64": Form(states(lambda s: {k: v.double() for k, v in s.items()})),
    "without the counters of batch norm": Form(states(_without_counters)),
    "tensors that are not contiguous": Form(
        states(lambda s: {k: v.t().contiguous().t() if v.ndim == 2 else v for k, v in s.items()})
    ),
    **{
        f"entry {name}": Form(states(partial(_in_entry, name)), f"from `{name}`")
        for name in (
            "state_dict",
            "model",
            "model_state_dict",
            "net",
            "network",
            "params",
            "weights",
            "module",
            "ema",
            "model_ema",
            "state_dict_ema",
            "generator",
            "params_ema",
        )
    },
    "entry of an entry": Form(states(lambda s: {"ema": {"model": s}}), "from `ema.model`"),
    "tuple of a state_dict and a number": Form(states(lambda s: (s, 3)), "from `0`"),
    "training script": Form(states(_trained), "from `model`"),
    "Lightning": Form(states(_lightning), "from `state_dict`, without `model.`"),
    "Lightning, with a loss": Form(
        states(lambda s: {"state_dict": prefixed("model.")(s) | {"loss.weight": torch.ones(3)}}),
        None,
        r'match Net.* It fits with checkpoint=Checkpoint\(prefix="model\."\)',
    ),
    "Lightning, with a loss, and the prefix": Form(
        states(lambda s: {"state_dict": prefixed("model.")(s) | {"loss.weight": torch.ones(3)}}),
        "from `state_dict`",
        settings=Checkpoint(prefix="model."),
    ),
    "DataParallel": Form(saved(lambda m: nn.DataParallel(m).state_dict()), "without `module.`"),
    "torch.compile": Form(saved(_compiled), "without `_orig_mod.`"),
    "torch.compile of a part": Form(states(_compiled_inside), "without `_orig_mod.`"),
    "DataParallel of torch.compile": Form(
        states(prefixed("module._orig_mod.")), "without `_orig_mod.` and `module.`"
    ),
    "DataParallel in an entry": Form(
        states(lambda s: {"state_dict": prefixed("module.")(s)}),
        "from `state_dict`, without `module.`",
    ),
    "averaged weights": Form(saved(_averaged), "without `module.`"),
    "of a module that holds it": Form(states(prefixed("backbone.net.")), "without `backbone.net.`"),
    "of the part of a module": Form(
        saved(lambda m: m.get_submodule("features").state_dict()),
        "under `features.`",
        module=lambda: nn.ModuleDict({"features": Net().features}),
        source=Net,
    ),
    "tied weights in safetensors": Form(_tied_safetensors, "with tied weights", module=Tied),
    "tied weights": Form(states(dict), module=Tied),
    "state that is no tensor": Form(states(dict), module=Stateful),
    "weight norm of older torch": Form(states(dict), module=Normed, source=OldNormed),
    "shards of safetensors": Form(_shards("safetensors")),
    "shards of pickles": Form(_shards("bin")),
    "folder with shards": Form(_shards("safetensors", index=False)),
    "folder of Hugging Face": Form(_in_folder("pytorch_model.bin")),
    "folder with one file": Form(_in_folder("best.ckpt")),
    "folder with two": Form(_in_folder("a.pt", "b.pt"), None, "holds 2 checkpoints, such as a.pt"),
    "folder with none": Form(_in_folder(), None, "holds no checkpoint: no file ends with"),
    "shard that is missing": Form(
        _shards("safetensors", lost="00002-of-00002"), None, "1 of 2 files .* are missing, the fir"
    ),
    "index that is none": Form(_index("[]"), None, "is not an index of shards"),
    "index that leads elsewhere": Form(
        _index('{"weight_map": {"a": "../../etc/passwd"}}'), None, "is not an index of shards"
    ),
    "raw and averaged weights": Form(
        states(lambda s: {"model": s, "model_ema": other(s)}),
        None,
        r"several sets of weights.*: model, model_ema\. Say .*Checkpoint\(entry=\"model\"\)",
    ),
    "raw and averaged weights, with the entry": Form(
        states(lambda s: {"model_ema": s, "model": other(s)}),
        "from `model_ema`",
        settings=Checkpoint(entry="model_ema"),
    ),
    "the same weights twice": Form(states(lambda s: {"model": s, "best": dict(s)}), "from `model`"),
    "entry that is not there": Form(
        states(lambda s: {"model": s}),
        None,
        r"no weights in an entry 'ema'\. It has some in: model",
        settings=Checkpoint(entry="ema"),
    ),
    "weights beside those of another network": Form(
        states(lambda s: {"student": s, "teacher": Net(7).state_dict()}), "from `student`"
    ),
    "other names": Form(
        states(lambda s: {k.replace("head.", "fc."): v for k, v in s.items()}),
        None,
        r"2 missing \(head\.bias, head\.weight\).*Nearest to head\.bias in the file: fc\.bias",
    ),
    "other names, with the mapping": Form(
        states(lambda s: {k.replace("head.", "fc."): v for k, v in s.items()}),
        settings=Checkpoint(rename={r"^fc\.": "head."}),
    ),
    "more than the module has": Form(
        states(lambda s: s | {"aux.weight": torch.ones(1), "aux.bias": torch.ones(1)}),
        None,
        r'2 unexpected.*give checkpoint=Checkpoint\(ignored=\("aux\.\*",\)\)',
    ),
    "more than the module has, ignored": Form(
        states(lambda s: s | {"aux.weight": torch.ones(1), "aux.bias": torch.ones(1)}),
        settings=Checkpoint(ignored=("aux.*",)),
    ),
    "without a head": Form(
        states(lambda s: {k: v for k, v in s.items() if "head" not in k}),
        None,
        r'2 missing.*begins with, give checkpoint=Checkpoint\(missing=\("head\.\*",\)\)',
    ),
    "without a head, which may be missing": Form(
        states(lambda s: {k: v for k, v in s.items() if "head" not in k}),
        "with the module's own values where it may",
        settings=Checkpoint(missing=("head.*",)),
    ),
    "another number of classes": Form(
        states(dict),
        None,
        r"2 with another shape \(head\.weight \(5, 8\), ex",
        source=lambda: Net(5),
    ),
    "another architecture": Form(
        saved(lambda m: nn.Linear(2, 2).state_dict()), None, r"9 missing.*Nearest to features\.0"
    ),
    "module": Form(saved(copy.copy), None, r"objects of tests\.export\S+Net.* convert it: saved ="),
    "date beside the weights": Form(
        states(lambda s: {"model": s, "saved": datetime.datetime(2026, 1, 1)}),
        None,
        r"objects of datetime\.datetime",
    ),
    "defaultdict beside the weights": Form(
        states(lambda s: {"model": s, "counts": collections.defaultdict(list, a=[1])}),
        None,
        r"was not loaded, because unpickling can run code\. .*saved\[\"state_dict\"\]",
    ),
    "optimizer": Form(
        saved(lambda m: torch.optim.AdamW(m.parameters()).state_dict()),
        None,
        "values that are not tensors: state, param_groups",
    ),
    "number": Form(saved(lambda m: 3), None, "contains a int; expected a state_dict"),
    "empty dict": Form(saved(lambda m: {}), None, "contains a dict; expected a state_dict"),
    "TorchScript": Form(_torchscript, None, r"is a TorchScript program.*torch\.jit\.load"),
    "torch.export": Form(_exported, None, r"is a program of torch\.export.*state_dict"),
    "pickle": Form(_content(pickle.dumps({"a": 1})), None, "is not a c"),
    "ONNX": Form(_content(b"\x08\x0a\x12\x07pytorch" + bytes(99)), None, "is not a c"),
    "HDF5": Form(_content(b"\x89HDF\r\n\x1a\n"), None, "HDF5 file, as Keras"),
    "GGUF": Form(_content(b"GGUF\x03"), None, "is a GGUF file"),
    "pointer of Git LFS": Form(
        _content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        None,
        r"pointer of Git LFS.*git lfs pull",
    ),
    "page of a web site": Form(_content(b"\n<!DOCTYPE html><html>"), None, "Download the file its"),
    "gzip": Form(_content(gzip.compress(b"x"), "w.pth.gz"), None, "compressed by gzip"),
    "tar": Form(_tar, None, "compressed by gzip"),
    "cut short": Form(_cut, None, "is not a complete checkpoint"),
    "empty file": Form(_content(b""), None, "is not a complete checkpoint|is not a checkpoint"),
    "safetensors cut short": Form(_content(b"\x08", "w.safetensors"), None, "complete safetensors"),
    "file that is not there": Form(lambda m, f: f / "none.pth", None, "There is no checkpoint"),
}


def load(form: Form, folder: Path) -> tuple[str, nn.Module, nn.Module]:
    """Writes and loads a form; what is said, the source and the module with its weights."""
    torch.manual_seed(1)
    source = (form.source or form.module)()
    path = form.write(source, folder) or folder / "w.pth"
    torch.manual_seed(2)
    module = form.module()
    return load_checkpoint(module, path, form.settings), source, module


def main() -> None:
    """Prints a table in Markdown."""
    print("| checkpoint | what becomes of it |\n|---|---|")
    for name, form in FORMS.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                said = load(form, Path(folder))[0]
                outcome = f"loaded{': ' + said if said else ''}"
            except ExportError as error:
                outcome = f"refused: {str(error).replace(folder + '/', '').replace('|', '')}"
        print(f"| {name} | {outcome} |")


if __name__ == "__main__":
    main()
