"""What is to be measured: a server, what it is sent, and how fast.

One `Plan` is one load. It crosses to the generator's process as JSON.
"""

import random
import ssl
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import ConfigDict, Field

from shipway.artifact import manifest
from shipway.engines.torchserve.tls import trust

LONGEST_S = 120.0
"""Of any latency that is recorded; no client waits longer."""


class Record(manifest.Record):
    """Bytes travel as base64."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class Closed(Record):
    """Each client sends its next request when it has the answer to its last."""

    kind: Literal["closed"] = "closed"
    clients: Annotated[int, Field(ge=1)]

    def __str__(self) -> str:
        return "1 client" if self.clients == 1 else f"{self.clients} clients"


class Open(Record):
    """Requests arrive by themselves, as a Poisson process, whether others are answered or not."""

    kind: Literal["open"] = "open"
    rate: Annotated[float, Field(gt=0)]
    """Arrivals a second."""
    seed: int = 0
    """The same seed gives the same arrivals."""
    most_clients: Annotated[int, Field(ge=1)] = 500
    """Requests under way at once. An arrival that finds all of them busy waits, and its wait
    counts."""

    def __str__(self) -> str:
        return f"{self.rate:g} a second"

    def arrivals(self, start: float, end: float) -> Iterator[float]:
        """When each request is to be sent: seconds on the clock of `start`."""
        chance = random.Random(self.seed)
        moment = start
        while (moment := moment + chance.expovariate(self.rate)) < end:
            yield moment


Load = Annotated[Closed | Open, Field(discriminator="kind")]


class Input(Record):
    """One request's body."""

    name: str
    content_type: str
    body: bytes


class Target(Record):
    """A model behind a server."""

    url: str
    """http://HOST:PORT/predictions/NAME[/VERSION], or grpc://HOST:PORT/NAME[/VERSION]."""
    certificate: str | None = None
    """A PEM file: the only one to trust there, over gRPC a sign of TLS. None for what OpenSSL
    trusts by itself, or by SSL_CERT_FILE."""

    @property
    def trust(self) -> ssl.SSLContext:
        """For HTTP."""
        return trust(self.certificate) if self.certificate else ssl.create_default_context()

    @property
    def protocol(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def address(self) -> str:
        """HOST:PORT"""
        return urlsplit(self.url).netloc

    @property
    def path(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    @property
    def model(self) -> str:
        """Its name, as far as the address tells it."""
        names = self._names
        return names[0] if names else self.path

    @property
    def version(self) -> str | None:
        return self._names[1] if len(self._names) > 1 else None

    @property
    def _names(self) -> list[str]:
        steps = [unquote(each) for each in urlsplit(self.url).path.split("/") if each]
        if self.protocol == "grpc":
            return steps
        return steps[1:] if steps[:1] == ["predictions"] else []


class Plan(Record):
    """One load on one server."""

    target: Target
    headers: Mapping[str, str] = Field(default_factory=dict)
    """Of every request, over gRPC its metadata: the token. No report repeats them."""
    inputs: Annotated[tuple[Input, ...], Field(min_length=1)]
    """Sent in turns; each client starts at another one."""
    load: Load
    warm_up_s: Annotated[float, Field(ge=0)] = 2.0
    """Under the same load, and left out."""
    seconds: Annotated[float, Field(gt=0)] = 10.0
    """What is measured after that."""
    timeout_s: Annotated[float, Field(gt=0, le=LONGEST_S)] = 30.0
    """After this long a client gives up, and the request counts as an error."""
