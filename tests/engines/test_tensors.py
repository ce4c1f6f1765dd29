"""Arrays over the wire, and back."""

import json

import numpy as np
import pytest

from shipway.engines.errors import PredictionFailed
from shipway.engines.tensors import pack, unpack
from shipway.payloads.request import HEADER_LENGTH


def test_what_is_packed_as_inputs_unpacks_as_the_same_arrays():
    arrays = {
        "ids": np.arange(6, dtype=np.int64).reshape(2, 3),
        "x": np.array([[1.5, -2.0]], np.float32).T,
    }
    body, headers = pack(arrays)
    length = int(headers[HEADER_LENGTH])
    header = json.loads(body[:length])
    reply = json.dumps({"outputs": header["inputs"]}).encode()
    found = unpack(reply + body[length:], {HEADER_LENGTH: str(len(reply))})
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{}", {}),
        (b"{}", {HEADER_LENGTH: "2"}),
        (b"[1]", {HEADER_LENGTH: "3"}),
        (b"no JSON", {HEADER_LENGTH: "7"}),
    ],
)
def test_what_is_no_reply_in_tensors_is_a_prediction_that_failed(body, headers):
    with pytest.raises(PredictionFailed) as caught:
        unpack(body, headers)
    assert caught.value.code == 502
