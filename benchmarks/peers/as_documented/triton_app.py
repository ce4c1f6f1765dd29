"""Triton through PyTriton: one inference function, dynamic batching with its defaults.

https://triton-inference-server.github.io/pytriton/latest/quick_start/
https://triton-inference-server.github.io/pytriton/latest/binding_configuration/
"""

import sys

import numpy as np
import torch
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.as_documented import network

module = network.load()


@batch
def infer(image):
    answers = network.classify(module, torch.stack([network.to_tensor(each[0]) for each in image]))
    return {
        name: np.array([[p[name] for p in a] for a in answers], dtype)
        for name, dtype in (("class_id", np.int64), ("probability", np.float32))
    }


if __name__ == "__main__":
    http_port, grpc_port, metrics_port = map(int, sys.argv[1:])
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=http_port,
        grpc_address="127.0.0.1",
        grpc_port=grpc_port,
        metrics_port=metrics_port,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="classifier",
            infer_func=infer,
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[
                Tensor(name="class_id", dtype=np.int64, shape=(-1,)),
                Tensor(name="probability", dtype=np.float32, shape=(-1,)),
            ],
            config=ModelConfig(max_batch_size=128),
        )
        triton.serve()
