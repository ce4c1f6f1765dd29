"""TorchServe's own call, as a worker reads it."""

import pytest

from shipway.engines.torchserve.generated import inference_pb2 as messages
from shipway.engines.torchserve.predictions_call import Predictions
from shipway.payloads.errors import BadRequest
from shipway.serving.replies import Reply


def test_a_call_has_its_fields_and_no_headers():
    message = messages.PredictionsRequest(
        model_name="cats", model_version="1.0", input={"body": b"\xff", "other": b""}
    ).SerializeToString()
    request = Predictions().request(message, {"authorization": "secret"}, "mine")
    assert request.fields == {"body": b"\xff", "other": b""}
    assert request.headers == {} and request.id == "mine"


def test_the_answer_is_the_replys_body():
    answer = messages.PredictionResponse.FromString(Predictions().reply(Reply(b"[1]")))
    assert answer.prediction == b"[1]"


def test_a_message_that_is_none_is_refused():
    with pytest.raises(BadRequest, match="is not a PredictionsRequest"):
        Predictions().request(b"\xff", {}, "")
