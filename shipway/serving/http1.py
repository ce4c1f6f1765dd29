"""HTTP/1.1 on one connection: bytes to requests, and replies to bytes. llhttp parses, by httptools.

Replies leave in the order of their requests, however many a client sends ahead (RFC 9112, 9.3.2).
"""

import asyncio
import logging
import select
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

import httptools

from shipway.serving.replies import Reply, refused_by_server
from shipway.serving.statuses import PHRASE_OF

logger = logging.getLogger(__name__)

MOST_AHEAD = 32
"""How many requests of one connection may wait for their replies. Meanwhile it is not read."""
MOST_HEADER_BYTES = 64 * 1024
"""Of all headers of a request together."""


@dataclass(slots=True)
class HttpRequest:
    """A request with its whole body."""

    method: str
    path: str
    """Percent-encoded, as it arrived."""
    query: str
    headers: dict[str, str] = field(default_factory=dict)
    """By name in lower case; several of one name are joined by commas (RFC 9110, 5.3)."""
    body: bytes = b""
    is_wanted: Callable[[], bool] = lambda: True
    """Whether somebody still waits for the reply."""


Answer = Callable[[Reply], None]
"""Sends the reply to a request. Called once, in the event loop's thread."""


class Application(Protocol):
    """What answers the requests of all connections. Its methods run in the event loop's thread."""

    def why_refused(self, head: HttpRequest) -> Reply | None:
        """The reply to a request whose body need not be read; None to read it."""
        ...

    def handle(self, request: HttpRequest, answer: Answer) -> None:
        """Answers a request, now or later."""
        ...

    def refused(self, head: HttpRequest, refusal: Reply) -> Reply:
        """A refusal in the form that the client of a request expects."""
        ...


@dataclass(slots=True)
class Held:
    """The bytes of all bodies that a server holds: of those that arrive, and of those that wait."""

    limit: int
    bytes: int = 0


class _Exchange:
    """A request and its reply, which waits until those before it have left."""

    __slots__ = ("held", "keeps_alive", "reply", "without_body")

    def __init__(self, *, keeps_alive: bool, without_body: bool, held: int = 0) -> None:
        self.held = held
        self.keeps_alive = keeps_alive
        self.without_body = without_body
        self.reply: Reply | None = None


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(
        self,
        application: Application,
        connections: "set[Connection]",
        max_body_bytes: int,
        held: Held,
    ) -> None:
        """`connections` holds it as long as it is open. `held` is shared by all of a server."""
        self._application = application
        self._connections = connections
        self._max_body_bytes = max_body_bytes
        self._held = held
        self._own = 0
        """The bytes of the body that arrives, in `held`."""
        self._parser = httptools.HttpRequestParser(self)
        self._exchanges: deque[_Exchange] = deque()
        self._transport: asyncio.Transport | None = None
        self._reads = True
        self._sends_no_more = False
        self._head_bytes = 0
        """Received since the last request was complete, while the headers of one are not."""
        self._start_request()

    def _start_request(self) -> None:
        self._target = b""
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._head: HttpRequest | None = None
        self._refusal: Reply | None = None

    # What asyncio calls ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio. Requests that are being answered are answered to nobody."""
        del exc
        self._transport = None
        self._connections.discard(self)
        self._release()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if not self._reads:
            return
        # httptools keeps the beginning of a header until it has the end.
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._head is None and self._head_bytes > MOST_HEADER_BYTES:
                self._end_reading(
                    431,
                    "BadRequestException",
                    f"The headers have more than {MOST_HEADER_BYTES:,} bytes. Send fewer.",
                )
        except httptools.HttpParserUpgrade:
            self._end_reading(501, "NotImplementedException", "Upgrades are not supported.")
        except httptools.HttpParserError as error:
            reason = str(error) or type(error).__name__
            self._end_reading(
                400, "BadRequestException", f"The request is not valid HTTP/1.1: {reason}."
            )

    def eof_received(self) -> bool:
        """Called by asyncio. What was asked before is answered, then the connection ends."""
        self._reads, self._sends_no_more = False, True
        return bool(self._exchanges)

    # What httptools calls ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Called by httptools."""
        self._start_request()

    def on_url(self, url: bytes) -> None:
        """Called by httptools, in parts too."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools."""
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Called by httptools."""
        path, _, query = self._target.decode("latin-1").partition("?")
        method = self._parser.get_method().decode("latin-1")
        self._head = HttpRequest(method, path, query, self._headers)
        self._head_bytes = 0
        self._refusal = self._application.why_refused(self._head)
        length = self._headers.get("content-length", "")
        if self._refusal is None and length.isdigit() and int(length) > self._max_body_bytes:
            self._refusal = too_large(self._max_body_bytes)
        if self._refusal is None and self._headers.get("expect", "").lower() == "100-continue":
            assert self._transport is not None
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Called by httptools, in parts too."""
        self._body_bytes += len(body)
        if self._refusal is None and self._body_bytes > self._max_body_bytes:
            self._refusal = too_large(self._max_body_bytes)
        if self._refusal is None and self._held.bytes + len(body) > self._held.limit:
            self._refusal = overloaded()
        if self._refusal is not None:
            self._chunks.clear()
            self._release()
            return
        self._chunks.append(body)
        self._own += len(body)
        self._held.bytes += len(body)

    def on_message_complete(self) -> None:
        """Called by httptools."""
        request, refusal = self._head, self._refusal
        assert request is not None
        self._head, self._head_bytes = None, 0
        if not self._reads:  # what follows a request with `Connection: close`
            return
        exchange = _Exchange(
            keeps_alive=self._parser.should_keep_alive(),
            without_body=request.method == "HEAD",
            held=self._own,
        )
        self._own = 0
        self._exchanges.append(exchange)
        if not exchange.keeps_alive:
            self._reads = False
        elif len(self._exchanges) >= MOST_AHEAD and self._transport is not None:
            self._transport.pause_reading()
        if refusal is not None:
            self._answer(exchange, self._application.refused(request, refusal))
            return
        request.is_wanted = self._is_open
        # Not kept here: a client may leave its connection open for hours before it asks again.
        chunks, self._chunks = self._chunks, []
        request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        del chunks
        try:
            self._application.handle(request, lambda reply: self._answer(exchange, reply))
        except Exception:  # the request must not wait for ever, nor those behind it
            logger.exception("a request could not be handled")
            if exchange.reply is None:
                refusal = failed("The request failed.")
                self._answer(exchange, self._application.refused(request, refusal))

    # Replies -----------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no request waits for its reply."""
        return not self._exchanges

    def close(self) -> None:
        """Ends the connection once its requests are answered."""
        self._reads = False
        if not self._exchanges and self._transport is not None:
            self._transport.close()

    def _is_open(self) -> bool:
        if self._transport is None:
            return False
        return not self._sends_no_more or not _hung_up(self._transport)

    def _release(self) -> None:
        self._held.bytes -= self._own
        self._own = 0

    def _end_reading(self, status: int, kind: str, message: str) -> None:
        self._reads = False
        exchange = _Exchange(keeps_alive=False, without_body=False)
        self._exchanges.append(exchange)
        self._answer(exchange, refused_by_server(status, kind, message))

    def _answer(self, exchange: _Exchange, reply: Reply) -> None:
        exchange.reply = reply
        self._held.bytes -= exchange.held
        exchange.held = 0
        transport = self._transport
        if transport is None:
            return
        waited = len(self._exchanges) >= MOST_AHEAD
        while self._exchanges and (reply_of_first := self._exchanges[0].reply) is not None:
            first = self._exchanges.popleft()
            transport.writelines(_written(reply_of_first, first))
            if not first.keeps_alive:
                transport.close()
                return
        if waited and len(self._exchanges) < MOST_AHEAD:
            transport.resume_reading()
        if not self._reads and not self._exchanges:
            transport.close()


def _hung_up(transport: asyncio.Transport) -> bool:
    """Whether the client has closed its connection, not only its half of it (poll(2), POLLHUP).
    Nothing else tells before a reply is written."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), 0)
    return any(seen & (select.POLLHUP | select.POLLERR) for _, seen in poll.poll(0))


def failed(what: str) -> Reply:
    """The reply to a request that failed unexpectedly. `what` begins its message."""
    return refused_by_server(500, "InternalError", f"{what} The server's log has the cause.")


def overloaded() -> Reply:
    """The reply to a request for whose body there is no memory."""
    return refused_by_server(
        503,
        "ServiceUnavailableException",
        "The bodies of too many requests wait or arrive. Send it again later.",
        {"Retry-After": "1"},
    )


def too_large(limit: int) -> Reply:
    """The reply to a request whose body is above the limit, in bytes."""
    return refused_by_server(
        413,
        "PayloadTooLargeException",
        f"The request body has more than {limit:,} bytes, the limit of this server. "
        "Send a smaller one.",
    )


def _written(reply: Reply, exchange: _Exchange) -> tuple[bytes, bytes]:
    lines = [f"HTTP/1.1 {reply.status} {PHRASE_OF.get(reply.status, '')}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    lines.append(f"content-length: {len(reply.body)}")
    if not exchange.keeps_alive:
        lines.append("connection: close")
    head = "\r\n".join(lines) + "\r\n\r\n"
    return head.encode("latin-1", "replace"), b"" if exchange.without_body else reply.body
