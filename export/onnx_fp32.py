"""ONNX in fp32, by the torch.export-based exporter: the program that runs anywhere."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch

from export.technique import Job, Technique
from export.torch_export import dynamic_batch


def build(job: Job, path: Path) -> None:
    # The exporter narrates on stdout, on stderr and in the log; its exceptions say what matters.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            job.module,
            (torch.from_numpy(job.example),),
            dynamo=True,
            dynamic_shapes=dynamic_batch(job.batch),
            input_names=[job.input.name],
            output_names=["outputs"],
            external_data=False,
            verbose=False,
        )
    assert program is not None
    program.save(path)


TECHNIQUE = Technique(
    name="onnx_fp32", file="onnx_fp32.onnx", format="onnx", portable=True, build=build
)
