"""mosec as its example of an image classifier does it: four processes that read photos, two that
compute batches of up to 16.

https://mosecorg.github.io/mosec/examples/pytorch.html
"""

import numpy as np
import torch
from mosec import Server, Worker

from benchmarks.peers.as_documented import network


class Preprocess(Worker):
    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> np.ndarray:
        return network.to_tensor(data).numpy()


class Inference(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._module = network.load()

    def forward(self, data: list[np.ndarray]) -> list:
        return network.classify(self._module, torch.stack([torch.tensor(each) for each in data]))


if __name__ == "__main__":
    server = Server()
    server.append_worker(Preprocess, num=4)
    server.append_worker(Inference, num=2, max_batch_size=16)
    server.run()
