"""What can go wrong between a user and the server."""

from typing import ClassVar, TypeVar

from shipway.errors import ShipwayError

AnyRefused = TypeVar("AnyRefused", bound="Refused")


class ServerError(ShipwayError):
    """Base of every error that an engine raises."""


class ConfigError(ServerError):
    """A server configuration that is missing or cannot be served from."""


class LaunchError(ServerError):
    """The server could not be started, or did not become ready."""


class NoServer(ServerError):
    """No server is running from this state directory."""


class Unreachable(ServerError):
    """The recorded server does not answer."""


class UnsupportedByEngine(ServerError):
    """This kind of server cannot do what was asked."""

    def __init__(self, engine: str, what: str, advice: str) -> None:
        super().__init__(f"{engine} {what}. {advice}")
        self.engine = engine


class Refused(ServerError):
    """The server refused a request. `code` is an HTTP status, `type` the server's or the handler's
    name for the error."""

    _code: ClassVar[int] = 400
    _type: ClassVar[str] = "BadRequest"

    def __init__(self, message: str, *, code: int | None = None, type: str | None = None) -> None:
        super().__init__(message)
        self.code = self._code if code is None else code
        self.type = self._type if type is None else type

    def retold(self, kind: type[AnyRefused], message: str) -> AnyRefused:
        """The same refusal as another class, with a message that says what to do."""
        return kind(message, code=self.code, type=self.type)


class ModelNotFound(Refused):
    """No model of that name is registered."""

    _code = 404
    _type = "ModelNotFoundException"


class VersionNotFound(Refused):
    """The model is registered, this version of it is not."""

    _code = 404
    _type = "ModelVersionNotFoundException"


class VersionExists(Refused):
    """This version is already registered, and versions are immutable."""

    _code = 409
    _type = "ConflictStatusException"


class DefaultVersionInUse(Refused):
    """The default version cannot be unregistered while others are registered."""

    _code = 403
    _type = "InvalidModelVersionException"


class WorkersFailed(Refused):
    """The version was accepted, but its workers did not start."""

    _code = 500
    _type = "WorkersFailed"


class PredictionFailed(Refused):
    """One input got no prediction."""

    _code = 500
    _type = "PredictionFailed"
