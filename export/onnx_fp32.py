"""ONNX in fp32, by the torch.export-based exporter: the program that runs anywhere."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch

from export.technique import Job, Technique


def build(job: Job, path: Path) -> None:
    # The exporter narrates on stdout, on stderr and in the log; its exceptions say what matters.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            job.module,
            job.example_tensors,
            dynamo=True,
            dynamic_shapes=job.dynamic_shapes,
            input_names=[each.name for each in job.inputs],
            output_names=[job.output],
            external_data=False,
            verbose=False,
        )
    assert program is not None
    program.save(path)


TECHNIQUE = Technique(
    name="onnx_fp32",
    file="onnx_fp32.onnx",
    format="onnx",
    runtime="onnxruntime",
    portable=True,
    build=build,
)
TECHNIQUES = (TECHNIQUE,)
