"""LitServe with batching as in its reference, whose example has these two values.

https://lightning.ai/docs/litserve/features/batching
https://lightning.ai/docs/litserve/api-reference/litapi
"""

import os
import sys

import litserve
import torch

from benchmarks.peers.as_documented import network


class Api(litserve.LitAPI):
    def setup(self, device):
        self.module = network.load().to(device)

    def decode_request(self, request):
        return network.to_tensor(request["image"].file.read())

    def batch(self, inputs):
        return torch.stack(inputs)

    def predict(self, pixels_BCHW):
        return network.classify(self.module, pixels_BCHW)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=8, batch_timeout=0.1)
    server = litserve.LitServer(api, accelerator="auto", workers_per_device=os.cpu_count())
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
