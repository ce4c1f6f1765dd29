"""FastAPI: a plain function for uploaded files, run in its thread pool; nothing is batched.

https://fastapi.tiangolo.com/tutorial/request-files/
"""

from typing import Annotated

from fastapi import FastAPI, File

from benchmarks.peers.same_program.common import Classifier

app = FastAPI()
classify = Classifier()


@app.post("/predict")
def predict(image: Annotated[bytes, File()]) -> list[dict]:
    return classify([image])[0]
