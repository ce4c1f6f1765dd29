"""mosec: workers that get batches of up to 8, which wait for one millisecond.

https://mosecorg.github.io/mosec/reference/interface.html
Photos arrive as the body, since `deserialize` may be replaced.
"""

from mosec import Server, Worker

from benchmarks.peers.same_program.common import MAX_BATCH, WORKERS, Classifier


class Classify(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._classify = Classifier()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list:
        return self._classify(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Classify, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=1)
    server.run()
