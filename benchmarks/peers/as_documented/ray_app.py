"""Ray Serve: `serve.batch` with the values of its guide's example, and a replica a core.

https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html
The guide also says to let more requests into a replica than a batch holds.
"""

import os
import sys

import torch
from ray import serve
from starlette.requests import Request

from benchmarks.peers.as_documented import network


@serve.deployment(num_replicas=os.cpu_count(), max_ongoing_requests=16)
class Deployment:
    def __init__(self) -> None:
        self.module = network.load()

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.1)
    async def predict(self, photos: list[bytes]) -> list[list[dict]]:
        pixels_BCHW = torch.stack([network.to_tensor(photo) for photo in photos])
        return network.classify(self.module, pixels_BCHW)

    async def __call__(self, request: Request) -> list[dict]:
        return await self.predict(await request.body())


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Deployment.bind(), route_prefix="/predict", blocking=True)
