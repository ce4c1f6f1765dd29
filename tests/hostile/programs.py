"""Programs that are sealed as they should be, and still nothing that may be run."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper

from tests.hostile import payloads
from tests.hostile.artifacts import edit

OUTSIDE = ("/etc/passwd", "../manifest.json")


def onnx_with(node: str, *, domain: str = "", location: str | None = None) -> bytes:
    """A model of one node, its weight in another file if `location` names one."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], bytes(16), raw=True)
    if location:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "16")):
            weight.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node(node, ["w"], ["y"], domain=domain)],
        "evil",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [weight],
    )
    opsets = [helper.make_opsetid("", 17)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return model.SerializeToString()


class Doubled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def exported_with_a_pickle(folder: Path) -> bytes:
    """What torch.export.save writes, its example inputs a pickle that is none of tensors."""
    path = folder / "honest.pt2"
    torch.export.save(torch.export.export(Doubled(), (torch.ones(3),)), path)
    evil = folder / "evil.pt2"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(evil, "w") as new:
        for name in old.namelist():
            poisoned = "sample_inputs" in name
            new.writestr(name, payloads.pickled() if poisoned else old.read(name))
    path.unlink()
    content = evil.read_bytes()
    evil.unlink()
    return content


def _with_weights_at(place: str, folder: Path) -> bytes:
    return onnx_with("Identity", location=place)


Made = tuple[str, str, Callable[[Path], bytes]]
"""Format, runtime, and the file's bytes."""
CASES: dict[str, Made] = {
    **{
        f"weights_in_{place.strip('/.').replace('/', '_')}_by_{runtime}": (
            "onnx",
            runtime,
            partial(_with_weights_at, place),
        )
        for place in OUTSIDE
        for runtime in ("onnxruntime", "openvino")
    },
    "an_unknown_operator": ("onnx", "onnxruntime", lambda _: onnx_with("Evil", domain="evil")),
    "an_unknown_operator_in_openvino": (
        "onnx",
        "openvino",
        lambda _: onnx_with("Evil", domain="evil"),
    ),
    "a_library_for_onnx": ("onnx", "onnxruntime", lambda _: payloads.native()),
    "a_pickle_for_torchscript": ("torchscript", "torch", lambda _: payloads.torchscript()),
    "a_plain_pickle_for_torchscript": ("torchscript", "torch", lambda _: payloads.pickled()),
}


def plant(folder: Path, name: str) -> None:
    """Makes the case the one program of an artifact, with the right digest everywhere."""
    format, runtime, make = CASES[name]
    content = make(folder.parent)
    manifest = json.loads((folder / "manifest.json").read_text())
    program = manifest["programs"]["onnx_fp32"]
    (folder / program["file"]).write_bytes(content)
    program |= {
        "format": format,
        "runtime": runtime,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    edit(folder, programs={"onnx_fp32": program}, chosen="onnx_fp32", fallback="onnx_fp32")
