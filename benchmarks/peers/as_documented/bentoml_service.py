"""BentoML: a batchable API with its default bounds, and a worker a core.

https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html
https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html
"""

from pathlib import Path

import bentoml
import torch

from benchmarks.peers.as_documented import network


@bentoml.service(workers="cpu_count")
class Service:
    def __init__(self) -> None:
        self.module = network.load()

    @bentoml.api(batchable=True)
    def predict(self, image: list[Path]) -> list[list[dict]]:
        pixels_BCHW = torch.stack([network.to_tensor(each.read_bytes()) for each in image])
        return network.classify(self.module, pixels_BCHW)
