"""What is wrong with a request. Each message is sent to the client as it is."""

from shipway.errors import ShipwayError


class BadRequest(ShipwayError):
    """The request has the wrong form: an empty body, invalid JSON, an unknown field."""


class BadTensor(ShipwayError):
    """A tensor has the wrong name, datatype, shape, number of bytes or values."""


class TooManyRows(ShipwayError):
    """One request has more rows than the limit."""


class TooManyValues(ShipwayError):
    """A JSON text has more numbers, texts, lists and objects than the limit."""


class NotFinite(ShipwayError):
    """A valid input for which the model computes infinity or NaN. A client can find such an input
    for any model, so this is not a failure of the server."""


class UnsupportedContent(ShipwayError):
    """An unknown content type or content encoding."""


class DeadlinePassed(ShipwayError):
    """The request cannot be answered before its deadline."""


class ClientGone(ShipwayError):
    """The client closed its connection before it had the answer."""


class ReplyTooLarge(ShipwayError):
    """The answer has more bytes than the server sends."""


class InternalError(ShipwayError):
    """A row failed for a reason that was not foreseen. The log has the traceback."""


class BadText(ShipwayError):
    """A text holds something that is not a character."""


class TextTooLong(ShipwayError):
    """A text has more tokens than the model reads, and the recipe says to refuse such texts."""


class BadImage(ShipwayError):
    """An image in a supported format is damaged, too small to crop, or has colours that cannot be
    converted to 8-bit RGB as they are meant."""


class NotAnImage(ShipwayError):
    """The bytes are not an image in a supported format."""


class ImageTooLarge(ShipwayError):
    """An image has more pixels than the limit."""
