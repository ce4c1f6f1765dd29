"""FastAPI: coroutines, since a digit takes less time than a thread of its pool; nothing is batched.

`benchmarks.front` sets the variables. https://fastapi.tiangolo.com/async/
B = digits, H, W, C = pixels, K = classes.
"""

import os
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Request

from shipway.artifact.bundle import open_artifact
from shipway.payloads.images import decode_image
from shipway.recipe import ImagePreprocessing
from shipway.runtime.backends.onnxruntime import OnnxRuntimeProgram
from shipway.tasks.classes import rank

artifact = open_artifact(Path(os.environ["PEERS_ARTIFACT"]))
manifest = artifact.manifest
spec = manifest.preprocessing
assert isinstance(spec, ImagePreprocessing)
program = OnnxRuntimeProgram(
    artifact.program_path(manifest.chosen), threads=int(os.environ["PEERS_THREADS"])
)
app = FastAPI()


@app.post("/image")
async def image(request: Request) -> list[dict]:
    pixels_1HWC = decode_image(await request.body(), spec)[None]
    (logits_1K,) = program.run([pixels_1HWC])
    return rank(logits_1K, manifest.labels, manifest.top_k)[0]


@app.post("/tensor")
async def tensor(request: Request) -> dict[str, list[float]]:
    pixels = np.frombuffer(await request.body(), np.uint8)
    (logits_1K,) = program.run([pixels.reshape(1, spec.height, spec.width, 3)])
    return {"logits": logits_1K[0].tolist()}
