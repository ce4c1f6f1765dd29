"""Ray Serve: a replica for each worker, `serve.batch` around the batch method.

https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html
"""

import sys

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.same_program.common import MAX_BATCH, THREADS, WORKERS, Classifier


@serve.deployment(
    num_replicas=WORKERS,
    ray_actor_options={"num_cpus": THREADS},
    max_ongoing_requests=2 * MAX_BATCH,  # its default of 5 would never fill a batch
)
class Deployment:
    def __init__(self) -> None:
        self.classify = Classifier()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0)
    async def predict(self, photos: list[bytes]) -> list[list[dict]]:
        return self.classify(photos)

    async def __call__(self, request: Request) -> list[dict]:
        return await self.predict(await request.body())


if __name__ == "__main__":
    ray.init(include_dashboard=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    serve.run(Deployment.bind(), route_prefix="/predict", blocking=True)
