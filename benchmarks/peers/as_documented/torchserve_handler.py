"""TorchServe: its own image_classifier with the transforms of this model, weights loaded eagerly.

https://github.com/pytorch/serve/blob/master/docs/getting_started.md
https://github.com/pytorch/serve/blob/master/docs/batch_inference_with_ts.md
"""

from ts.torch_handler.image_classifier import ImageClassifier

from benchmarks.peers.as_documented import network


class Handler(ImageClassifier):
    image_processing = network.transform
