"""What can go wrong between a user and the server."""

from typing import TypeVar

from shipway.errors import ShipwayError

AnyRefused = TypeVar("AnyRefused", bound="Refused")


class ServerError(ShipwayError):
    """Base of every error that this package raises."""


class ConfigError(ServerError):
    """A config.properties that is missing or that cannot be served from."""


class LaunchError(ServerError):
    """TorchServe could not be started, or did not become ready."""


class NoServer(ServerError):
    """No server is running from this state directory."""


class Unreachable(ServerError):
    """The recorded server does not answer."""


class Refused(ServerError):
    """An answer of the server that says no. `code` and `type` are TorchServe's or the handler's."""

    def __init__(self, message: str, *, code: int, type: str) -> None:
        super().__init__(message)
        self.code = code
        self.type = type

    def retold(self, kind: type[AnyRefused], message: str) -> AnyRefused:
        """The same refusal in words that say what to do."""
        return kind(message, code=self.code, type=self.type)


class ModelNotFound(Refused):
    """No model of that name is registered."""


class VersionNotFound(Refused):
    """The model is registered, this version of it is not."""


class VersionExists(Refused):
    """This version is registered already, and a version never changes."""


class DefaultVersionInUse(Refused):
    """The default version cannot go while others are registered."""


class WorkersFailed(Refused):
    """The archive was accepted, but its workers did not start."""


class PredictionFailed(Refused):
    """This one input got no prediction."""


class ReleasesError(ServerError):
    """The file of releases cannot be read or written."""


class ChangeUnderWay(ServerError):
    """Somebody else is changing what is served at this moment."""


class NotPromoted(ServerError):
    """A version that did not show that it can take over; the default is what it was."""


class NoFallback(ServerError):
    """There is no version to roll back to."""


class StoreError(ServerError):
    """A file that the model store cannot take."""


class NotApplicable(ServerError):
    """A models file that the server cannot be brought to; nothing was changed."""
