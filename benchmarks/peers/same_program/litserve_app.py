"""LitServe without batching, which serves it better here.

https://lightning.ai/docs/litserve/features/batching
With batching its workers poll their queue every millisecond: a quarter of a core when nobody asks,
and a quarter more processor time for a lone client's photo.
"""

import sys

import litserve

from benchmarks.peers.same_program.common import WORKERS, Classifier


class Api(litserve.LitAPI):
    def setup(self, device):
        self.classify = Classifier()

    def decode_request(self, request):
        return request["image"].file.read()

    def predict(self, photo):
        return self.classify([photo])[0]

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=WORKERS)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
