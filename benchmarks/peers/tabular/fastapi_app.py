"""FastAPI: a coroutine, since a row takes less time than a thread of its pool; nothing is batched.

https://fastapi.tiangolo.com/async/
"""

from fastapi import FastAPI

from benchmarks.peers.tabular.common import Classifier

app = FastAPI()
classify = Classifier()


@app.post("/predict")
async def predict(row: list[float]) -> list[dict]:
    return classify([row])[0]
