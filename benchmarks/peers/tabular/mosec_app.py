"""mosec: one worker that gets batches of up to 16, which wait for one millisecond.

https://mosecorg.github.io/mosec/examples/echo.html
"""

from mosec import Server, Worker

from benchmarks.peers.tabular.common import MAX_BATCH, Classifier


class Classify(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._classify = Classifier()

    def forward(self, data: list[list[float]]) -> list:
        return self._classify(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Classify, num=1, max_batch_size=MAX_BATCH, max_wait_time=1)
    server.run()
