"""What a request's body and its elements are, before a task reads them."""

from collections.abc import Callable, Sequence
from typing import Any

from shipway.errors import ShipwayError
from shipway.payloads.errors import BadRequest
from shipway.payloads.request import HEADER_LENGTH, Request, looks_like_json
from shipway.serving import oip
from shipway.serving.statuses import STATUS_OF


def maybe_v2(request: Request, value: Any) -> Any:
    """A JSON body that may be v2, decoded; anything else unchanged."""
    if HEADER_LENGTH in request.headers or not isinstance(value, bytes | bytearray):
        return value
    if request.content_type.startswith("text/"):
        return value
    if looks_like_json(value) and b'"inputs"' in value:
        try:
            return oip.parse_json(value, oip.ACCEPTED)
        except BadRequest:  # not JSON, so not v2: it may be a text
            return value
    return value


def each_of(read: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    """What `read` makes of each value; its error says which value it is of."""
    items = []
    for place, value in enumerate(values):
        try:
            items.append(read(value))
        except tuple(STATUS_OF) as error:
            raise placed(error, place) from error
    return items


def placed(error: ShipwayError, place: int) -> ShipwayError:
    """The error of one input of several, with its place, counted from 0."""
    return type(error)(f"Input {place}: {error}")
