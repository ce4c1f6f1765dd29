"""TorchServe's own gRPC call for predictions, answered by a worker."""

from collections.abc import Mapping

from shipway.engines.torchserve.generated import inference_pb2 as messages
from shipway.payloads.request import Request
from shipway.serving.oip_grpc import parsed
from shipway.serving.replies import Reply

PATH = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"


class Predictions:
    """The call Predictions. As with TorchServe, a handler sees the fields and no headers."""

    def request(self, message: bytes, headers: Mapping[str, str], identity: str) -> Request:
        """See `shipway.serving.grpc_calls.Call`."""
        del headers
        asked = parsed(messages.PredictionsRequest, message)
        return Request(dict(asked.input), {}, identity)

    def reply(self, reply: Reply) -> bytes:
        """See `shipway.serving.grpc_calls.Call`."""
        message: bytes = messages.PredictionResponse(prediction=reply.body).SerializeToString()
        return message
