"""LitServe with dynamic batching; the form is read in the server, the rest is done in the workers.

https://lightning.ai/docs/litserve/features/batching
A timeout of zero makes its worker poll the queue without a pause, so it gets a short one.
"""

import sys

import litserve

from benchmarks.peers.same_program.common import DELAY_S, MAX_BATCH, WORKERS, Classifier


class Api(litserve.LitAPI):
    def setup(self, device):
        self.classify = Classifier()

    def decode_request(self, request):
        return request["image"].file.read()

    def batch(self, inputs):
        return inputs

    def predict(self, photos):
        return self.classify(photos)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=MAX_BATCH, batch_timeout=DELAY_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
