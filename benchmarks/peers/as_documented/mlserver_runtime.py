"""MLServer: a custom runtime. Its documentation leaves batching off until its values were tried.

https://docs.seldon.ai/mlserver/user-guide/custom
https://docs.seldon.ai/mlserver/user-guide/adaptive-batching
"""

import numpy as np
import torch
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.as_documented import network


class Runtime(MLModel):
    async def load(self) -> bool:
        self.module = network.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        photos = Base64Codec.decode_input(payload.inputs[0])
        pixels_BCHW = torch.stack([network.to_tensor(photo) for photo in photos])
        answers = network.classify(self.module, pixels_BCHW)
        outputs = [
            NumpyCodec.encode_output(name, np.array([[p[name] for p in a] for a in answers]))
            for name in ("class_id", "probability")
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
