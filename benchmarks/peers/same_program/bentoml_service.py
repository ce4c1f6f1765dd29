"""BentoML with adaptive batching, which chooses batches and delays by itself.

https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html
Files arrive as paths, as its documentation of input types says.
"""

from pathlib import Path

import bentoml

from benchmarks.peers.same_program.common import MAX_BATCH, WORKERS, Classifier


@bentoml.service(workers=WORKERS)
class Service:
    def __init__(self) -> None:
        self.classify = Classifier()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH)
    def predict(self, image: list[Path]) -> list[list[dict]]:
        return self.classify([each.read_bytes() for each in image])
