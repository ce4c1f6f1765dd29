import pytest

from shipway.engines.torchserve.refusals import as_refusal


@pytest.mark.parametrize(
    "value",
    [[], {}, "text", 5, None, {"code": 200, "type": "a", "message": "b"}, {"code": 415},
     {"code": "415", "type": "a", "message": "b"}, [{"code": 415, "type": "a", "message": "b"}]],
)  # fmt: skip
def test_an_answer_is_not_mistaken_for_an_error(value):
    assert as_refusal(value) is None
