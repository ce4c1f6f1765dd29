"""What a sender can get wrong, and the HTTP status that says so."""

from shipway.errors import ShipwayError
from shipway.runtime.errors import BadImage, ImageTooLarge, NotAnImage


class BadRequest(ShipwayError):
    """The request's form is wrong: nothing there, JSON that does not parse, a field unknown."""


class InternalError(ShipwayError):
    """A row failed in a way that nobody foresaw; the log has the traceback."""


class ArchiveError(ShipwayError):
    """A `.mar` that is not what it should be."""


STATUS_OF: dict[type[ShipwayError], int] = {
    BadRequest: 400,
    BadImage: 400,
    ImageTooLarge: 413,
    NotAnImage: 415,
    InternalError: 500,
}
PHRASE_OF = {
    400: "Bad Request",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    500: "Internal Server Error",
}
