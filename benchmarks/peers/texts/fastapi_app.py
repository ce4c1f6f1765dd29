"""FastAPI: a plain function, run in its thread pool, and a lock around the program, which answers
one text at a time; nothing is batched.

`benchmarks.front` sets the variables. https://fastapi.tiangolo.com/async/
"""

import os
from pathlib import Path
from threading import Lock
from typing import Annotated

import numpy as np
from fastapi import Body, FastAPI

from shipway.artifact.bundle import open_artifact
from shipway.payloads.texts import Texts, Tokens
from shipway.recipe import TextPreprocessing
from shipway.runtime.model import Model

artifact = open_artifact(Path(os.environ["PEERS_ARTIFACT"]))
spec = artifact.manifest.preprocessing
assert isinstance(spec, TextPreprocessing)
texts = Texts(artifact.path / spec.tokenizer, spec)
# It pads and prepares as our worker does.
model = Model(artifact, threads=int(os.environ["PEERS_THREADS"]))
model.warm_up()
one_at_a_time = Lock()
app = FastAPI()


@app.post("/predict")
def predict(text: Annotated[str, Body()]) -> dict[str, list[float]]:
    (tokens,) = texts.encode([text])
    assert isinstance(tokens, Tokens)
    with one_at_a_time:
        (result,) = model.run([(tokens.ids, np.ones_like(tokens.ids))])
    return {"embedding": result.outputs[0].tolist()}
