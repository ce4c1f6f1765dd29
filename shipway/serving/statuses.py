"""The HTTP status of each error that a request can get."""

from shipway.errors import ShipwayError
from shipway.payloads.errors import (
    BadImage,
    BadRequest,
    BadTensor,
    BadText,
    ClientGone,
    DeadlinePassed,
    ImageTooLarge,
    InternalError,
    NotAnImage,
    NotFinite,
    ReplyTooLarge,
    TextTooLong,
    TooManyRows,
    TooManyValues,
    UnsupportedContent,
)
from shipway.runtime.backends.errors import OutOfMemory

STATUS_OF: dict[type[ShipwayError], int] = {
    BadRequest: 400,
    BadTensor: 400,
    BadImage: 400,
    BadText: 400,
    ImageTooLarge: 413,
    ReplyTooLarge: 413,
    TextTooLong: 413,
    TooManyRows: 413,
    TooManyValues: 413,
    NotAnImage: 415,
    UnsupportedContent: 415,
    NotFinite: 422,
    ClientGone: 499,  # as nginx and others count it; nobody gets this
    InternalError: 500,
    DeadlinePassed: 504,
    OutOfMemory: 507,
}


def status_of(error: Exception) -> int | None:
    """The status of an error by its class, or by the nearest class it derives from; None for an
    error that no request should meet."""
    return next((STATUS_OF[each] for each in type(error).__mro__ if each in STATUS_OF), None)


REQUEST_ID = "x-request-id"
"""The header of a reply with the id of its request."""
TOO_MANY_WAIT = "requests wait for this model"
"""In the message of a 503, by which clients of this project know why."""
PHRASE_OF = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    431: "Request Header Fields Too Large",
    499: "Client Closed Request",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    507: "Insufficient Storage",
}
