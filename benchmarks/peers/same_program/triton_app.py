"""Triton through PyTriton: its dynamic batcher, which does not wait unless it is told to.

https://triton-inference-server.github.io/pytriton/latest/binding_configuration/
One inference function for each worker; PyTriton runs them as threads of one process.
"""

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.same_program.common import MAX_BATCH, WORKERS, Classifier


def make_infer_function():
    classify = Classifier()

    @batch
    def infer(image):
        answers = classify([each[0] for each in image])
        return {
            name: np.array([[p[name] for p in a] for a in answers], dtype)
            for name, dtype in (("class_id", np.int64), ("probability", np.float32))
        }

    return infer


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
            infer_func=[make_infer_function() for _ in range(WORKERS)],
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[
                Tensor(name="class_id", dtype=np.int64, shape=(-1,)),
                Tensor(name="probability", dtype=np.float32, shape=(-1,)),
            ],
            config=ModelConfig(max_batch_size=MAX_BATCH),
        )
        triton.serve()
