"""TorchServe: a handler with a method for each step, as its documentation shows one.

https://github.com/pytorch/serve/blob/master/docs/custom_service.md
"""

from ts.torch_handler.base_handler import BaseHandler

from benchmarks.peers.same_program import common


class Handler(BaseHandler):
    def initialize(self, context):
        self.classify = common.Classifier()
        self.initialized = True

    def preprocess(self, data):
        return [row["body"] for row in data]

    def inference(self, data):
        return self.classify(data)

    def postprocess(self, data):
        return data
