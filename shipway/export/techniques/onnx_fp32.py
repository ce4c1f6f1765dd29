"""ONNX in fp32, by the exporter that is based on torch.export: the program that runs anywhere."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch

from shipway.export.techniques import register
from shipway.export.techniques.base import Job, Technique
from shipway.export.techniques.torch_export import exported


def build(job: Job, path: Path) -> None:
    """Writes one `.onnx` file, weights included, with dynamic axes."""
    # The exporter reports progress on stdout, stderr and in the log; exceptions say what matters.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    graph = exported(job)
    pool_plainly(graph)
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            dynamo=True,
            input_names=[spec.name for spec in job.inputs],
            output_names=list(job.outputs),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    # A value inside the graph may already have an output's name: torch calls the result of
    # nn.Embedding "embedding".
    for node in program.model.graph:
        for value in node.outputs:
            if value.name in job.outputs and not value.is_graph_output():
                value.name = f"{value.name}_inside"
    program.save(path)


def pool_plainly(graph: torch.export.ExportedProgram) -> None:
    """Replaces global average pooling by a mean over height and width, in place.

    For channels-last pixels, torch decomposes pooling to a mean and an `as_strided`, which becomes
    a chain of Shape, Range and Gather. The chain has no effect, but with it OpenVINO 2026.4
    computes wrong int8 results (EfficientNet-Lite0: relative error 0.71, without the chain 0.15).
    """
    aten = torch.ops.aten
    for node in graph.graph.nodes:
        if node.target is aten.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]:
            node.target = aten.mean.dim
            node.args = (node.args[0], [2, 3], True)
    graph.graph_module.recompile()


TECHNIQUE = Technique(
    packages=("onnx", "onnxscript"),
    order=60,
    name="onnx_fp32",
    file="onnx_fp32.onnx",
    format="onnx",
    runtime="onnxruntime",
    portable=True,
    build=build,
)
register(TECHNIQUE)
