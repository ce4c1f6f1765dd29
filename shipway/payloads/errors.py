"""What a sender can get wrong."""

from shipway.errors import ShipwayError


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
