"""What a load test measures: a server, the requests it is sent, and when they are sent.

One `LoadTest` is one load on one server. It goes to the generator's process as JSON.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import unquote, urlsplit

import orjson
from pydantic import ConfigDict, Field

from shipway.artifact import manifest
from shipway.limits import LONGEST_LATENCY_S
from shipway.loadtest.shapes import AnyShape
from shipway.plugins import load_plugins
from shipway.tls import trust


class Record(manifest.Record):
    """A record of a load test; bytes are base64 in its JSON."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class Input(Record):
    """The body of a request."""

    name: str
    """What reports call it: a file's name."""
    content_type: str
    body: bytes


class Target(Record):
    """A model behind a server."""

    url: str
    """http://HOST:PORT/predictions/NAME[/VERSION], or grpc://HOST:PORT/NAME[/VERSION]."""
    certificate: str | None = None
    """Path of a PEM file: the only certificate to trust. Over gRPC it also turns TLS on. Without it
    OpenSSL's default certificates are trusted, or those of SSL_CERT_FILE."""

    @property
    def trust(self) -> ssl.SSLContext:
        """The certificates to trust over HTTPS."""
        return trust(self.certificate) if self.certificate else ssl.create_default_context()

    @property
    def protocol(self) -> str:
        """http, https or grpc."""
        return urlsplit(self.url).scheme

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return urlsplit(self.url).netloc

    @property
    def path(self) -> str:
        """Path and query of the URL."""
        parts = urlsplit(self.url)
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    @property
    def model(self) -> str:
        """The model's name if the URL has the form above, else the path."""
        names = self._names
        return names[0] if names else self.path

    @property
    def version(self) -> str | None:
        """The version that the URL names; None for the default one."""
        return self._names[1] if len(self._names) > 1 else None

    @property
    def _names(self) -> list[str]:
        steps = [unquote(step) for step in urlsplit(self.url).path.split("/") if step]
        if self.protocol == "grpc":
            return steps
        return steps[1:] if steps[:1] == ["predictions"] else []


class LoadTest(Record):
    """One load on one server."""

    target: Target
    headers: Mapping[str, str] = Field(default_factory=dict)
    """Sent with every request, over gRPC as metadata: the token. Reports leave them out."""
    inputs: Annotated[tuple[Input, ...], Field(min_length=1)]
    """Sent in turn; each client starts at a different one."""
    load: AnyShape
    """When requests are sent."""
    warm_up_s: Annotated[float, Field(ge=0)] = 2.0
    """Seconds under the same load that are not measured."""
    seconds: Annotated[float, Field(gt=0)] = 10.0
    """Seconds that are measured, after the warm-up."""
    timeout_s: Annotated[float, Field(gt=0, le=LONGEST_LATENCY_S)] = 30.0
    """Seconds after which a client gives up and the request counts as an error."""
    plugins: tuple[Path, ...] = ()
    """Python files that register load shapes of your own; the generator imports them first."""

    def line(self) -> bytes:
        """The load test as one line of JSON."""
        return self.model_dump_json().encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        """A load test from its line. Raises PluginError and pydantic's ValidationError."""
        # A plugin registers the shape that the line names, so it is imported before that is read.
        for path in map(Path, orjson.loads(line).get("plugins", ())):
            load_plugins([path.stem], path.parent)
        return cls.model_validate_json(line)
