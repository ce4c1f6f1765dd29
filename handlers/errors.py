"""What a sender can get wrong, and the HTTP status that says so."""

from shipway.errors import ShipwayError
from shipway.runtime.errors import (
    BadImage,
    BadText,
    ImageTooLarge,
    NotAnImage,
    OutOfMemory,
    TextTooLong,
)


class BadRequest(ShipwayError):
    """The request's form is wrong: nothing there, JSON that does not parse, a field unknown."""


class BadTensor(ShipwayError):
    """A tensor is not what the model takes: its name, datatype, shape, bytes or values."""


class TooManyRows(ShipwayError):
    """One request asks for more rows than one may."""


class NotFinite(ShipwayError):
    """An input that is what the model takes, and that makes infinity or NaN of it. Any sender can
    find one, of a model that was found to be sound, so it is no failure of the server."""


class UnsupportedContent(ShipwayError):
    """A content type, or an encoding, that is not known here."""


class DeadlinePassed(ShipwayError):
    """A request's turn came too late for an answer in time."""


class InternalError(ShipwayError):
    """A row failed in a way that nobody foresaw; the log has the traceback."""


class ArchiveError(ShipwayError):
    """A `.mar` that is not what it should be."""


STATUS_OF: dict[type[ShipwayError], int] = {
    BadRequest: 400,
    BadTensor: 400,
    BadImage: 400,
    BadText: 400,
    ImageTooLarge: 413,
    TextTooLong: 413,
    TooManyRows: 413,
    NotAnImage: 415,
    UnsupportedContent: 415,
    NotFinite: 422,
    InternalError: 500,
    DeadlinePassed: 504,
    OutOfMemory: 507,
}
PHRASE_OF = {
    200: "OK",
    400: "Bad Request",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    504: "Gateway Timeout",
    507: "Insufficient Storage",
}
