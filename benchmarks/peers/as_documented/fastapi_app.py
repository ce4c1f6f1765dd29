"""FastAPI as its tutorial does it, and a process a core as its page on workers advises.

https://fastapi.tiangolo.com/tutorial/request-files/
https://fastapi.tiangolo.com/deployment/server-workers/
It has no batching and no advice on it.
"""

from typing import Annotated

from fastapi import FastAPI, File

from benchmarks.peers.as_documented import network

app = FastAPI()
module = network.load()


@app.post("/predict")
def predict(image: Annotated[bytes, File()]) -> list[dict]:
    return network.classify(module, network.to_tensor(image)[None])[0]
