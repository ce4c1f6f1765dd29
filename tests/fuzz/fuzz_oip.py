"""The binary-tensor decoder: any bytes behind a header length are tensors or a refusal."""

import sys

import atheris

with atheris.instrument_imports(include=["shipway"]):
    from shipway.errors import ShipwayError
    from shipway.payloads.request import HEADER_LENGTH, Request
    from shipway.recipe import Axis, TensorSpec
    from shipway.serving import oip

INPUTS = (
    TensorSpec(name="a", dtype="uint8", shape=(Axis(name="batch", max=8), 2)),
    TensorSpec(name="b", dtype="float32", shape=(Axis(name="batch", max=8), Axis(name="n", max=4))),
)


def test_one_input(data: bytes) -> None:
    """The first two bytes are the length of the JSON header, the rest is the body."""
    length, body = int.from_bytes(data[:2], "little"), data[2:]
    request = Request({"body": body}, {HEADER_LENGTH: str(length)})
    try:
        asked = oip.parse_request(request, body, INPUTS, ("y",), "text")
    except ShipwayError:
        return
    for array, spec in zip(asked.arrays, INPUTS, strict=bool(asked.arrays)):
        assert array.dtype == spec.dtype and array.ndim == len(spec.shape)
    assert all(isinstance(each, bytes) for each in asked.items)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
