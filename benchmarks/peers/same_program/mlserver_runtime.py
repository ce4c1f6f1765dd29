"""MLServer: a custom runtime; model-settings.json asks for adaptive batching.

https://docs.seldon.ai/mlserver/user-guide/custom
https://docs.seldon.ai/mlserver/user-guide/adaptive-batching
"""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.same_program.common import Classifier


class Runtime(MLModel):
    async def load(self) -> bool:
        self.classify = Classifier()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answers = self.classify(Base64Codec.decode_input(payload.inputs[0]))
        outputs = [
            NumpyCodec.encode_output(name, np.array([[p[name] for p in a] for a in answers]))
            for name in ("class_id", "probability")
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
