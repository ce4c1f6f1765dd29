"""HTTP/1.1 on one connection, over a real socket."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from shipway.serving.http1 import (
    MOST_AHEAD,
    MOST_HEADER_BYTES,
    Answer,
    Connection,
    Held,
    HttpRequest,
)
from shipway.serving.replies import Reply, refused_by_server

LIMIT = 300_000


class Echo:
    """Answers with what it got. Requests to /late are answered when `release` is called."""

    def __init__(self) -> None:
        self.seen: list[HttpRequest] = []
        self.late: list[tuple[HttpRequest, Answer]] = []

    def refused(self, head: HttpRequest, refusal: Reply) -> Reply:
        return refusal

    def why_refused(self, head: HttpRequest) -> Reply | None:
        if head.path == "/refused":
            return refused_by_server(404, "ResourceNotFoundException", "There is nothing here.")
        return None

    def handle(self, request: HttpRequest, answer: Answer) -> None:
        self.seen.append(request)
        if request.path == "/broken":
            raise ValueError("a fault")
        if request.path == "/late":
            self.late.append((request, answer))
        else:
            answer(self.reply(request))

    @staticmethod
    def reply(request: HttpRequest) -> Reply:
        return Reply(
            request.method.encode() + b" " + request.body, headers={"x-path": request.path}
        )


class Server:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.echo = Echo()
        self.connections: set[Connection] = set()
        self.held = Held(limit=3 * LIMIT)
        self.loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        made = self.loop.create_server(
            lambda: Connection(self.echo, self.connections, LIMIT, self.held), "127.0.0.1", 0
        )
        server = self.loop.run_until_complete(made)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self.loop.run_forever()
        server.close()
        self.loop.close()

    def call(self, function: Callable[[], None]) -> None:
        """Calls a function in the loop's thread, and waits for it."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(function)
        self.loop.call_soon_threadsafe(done.set)
        assert done.wait(5)

    @contextmanager
    def running(self) -> Iterator["Server"]:
        self._thread.start()
        assert self._started.wait(5)
        try:
            yield self
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(5)

    @contextmanager
    def client(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
            yield client


@pytest.fixture
def server():
    with Server().running() as running:
        yield running


def until_closed(client: socket.socket) -> bytes:
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


def exchange(server: Server, sent: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with server.client() as client:
        client.sendall(sent)
        return until_closed(client)


CLOSE = b"Connection: close\r\n\r\n"


def test_a_request_is_answered_and_the_connection_stays_open(server):
    with server.client() as client:
        for body in (b"one", b"two"):
            client.sendall(b"POST /a?b=c HTTP/1.1\r\nContent-Length: 3\r\n\r\n" + body)
            received = client.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 OK\r\n") and received.endswith(body)
            assert b"close" not in received
    assert [(each.path, each.query) for each in server.echo.seen] == [("/a", "b=c")] * 2


def test_a_chunked_body_is_put_together(server):
    received = exchange(
        server,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"3\r\nabc\r\n2;name=value\r\nde\r\n0\r\n\r\n",
    )
    assert received.endswith(b"POST abcde")


def test_a_request_may_arrive_byte_by_byte(server):
    with server.client() as client:
        for byte in b"POST /x HTTP/1.1\r\nContent-Length: 2\r\nX-Y: z\r\n" + CLOSE + b"ok":
            client.sendall(bytes([byte]))
        assert until_closed(client).endswith(b"POST ok")
    assert server.echo.seen[0].headers["x-y"] == "z"


def test_replies_leave_in_the_order_of_their_requests(server):
    with server.client() as client:
        client.sendall(b"GET /late HTTP/1.1\r\n\r\nGET /now HTTP/1.1\r\n" + CLOSE)
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):  # /now is answered already, and has to wait
            client.recv(1)
        client.settimeout(5)
        [(request, answer)] = server.echo.late
        server.call(lambda: answer(Echo.reply(request)))
        received = until_closed(client)
    assert received.index(b"x-path: /late") < received.index(b"x-path: /now")
    assert received.count(b"HTTP/1.1 200") == 2


def test_a_client_far_ahead_is_not_read_until_it_has_replies(server):
    sent = 4 * MOST_AHEAD
    with server.client() as client:
        for _ in range(sent):
            client.sendall(b"GET /late HTTP/1.1\r\n\r\n")
            # Each in a packet of its own: what has been read by then is parsed at once.
            server.call(lambda: None)
        waiting = len(server.echo.late)
        assert MOST_AHEAD <= waiting < sent
        received = b""
        while received.count(b"HTTP/1.1 200") < sent:
            late, server.echo.late = server.echo.late, []
            for request, answer in late:
                server.call(lambda request=request, answer=answer: answer(Echo.reply(request)))
            received += client.recv(2**20)


def test_bodies_up_to_the_limit_are_read_whatever_their_headers_may_be(server):
    body = bytes(range(256)) * (LIMIT // 256)
    length = f"Content-Length: {len(body)}\r\n".encode()
    with server.client() as client:
        for _ in range(2):
            client.sendall(b"POST / HTTP/1.1\r\n" + length + b"\r\n" + body)
            received = b""
            while not received.endswith(body):
                received += client.recv(2**20)
            assert received.startswith(b"HTTP/1.1 200")


def test_bodies_that_arrive_or_wait_may_hold_so_much_memory_and_no_more(server):
    head = f"POST /late HTTP/1.1\r\nContent-Length: {LIMIT}\r\n\r\n".encode()
    with server.client() as waits, server.client() as arrives, server.client() as third:
        waits.sendall(head + bytes(LIMIT))
        arrives.sendall(head + bytes(LIMIT - 1))
        third.sendall(head + bytes(LIMIT - 1))
        until(server, lambda: server.held.bytes == 3 * LIMIT - 2)
        with server.client() as refused:
            refused.sendall(head + bytes(LIMIT))
            assert refused.recv(65536).startswith(b"HTTP/1.1 503 ")
        third.close()
        until(server, lambda: server.held.bytes == 2 * LIMIT - 1)
        [(request, answer)] = server.echo.late
        server.call(lambda: answer(Echo.reply(request)))
        assert server.held.bytes == LIMIT - 1
    until(server, lambda: server.held.bytes == 0)


def test_an_idle_connection_keeps_nothing_of_what_it_was_asked(server):
    body = bytes(LIMIT)
    with server.client() as client:
        client.sendall(f"POST /late HTTP/1.1\r\nContent-Length: {LIMIT}\r\n\r\n".encode() + body)
        until(server, lambda: bool(server.echo.late))
        [(request, answer)] = server.echo.late
        server.call(lambda: answer(Echo.reply(request)))
        [connection] = server.connections
        assert not connection._chunks and connection._head is None and connection.is_idle


def until(server: Server, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline, server.held
        server.call(lambda: None)


def test_http_1_0_and_connection_close_end_the_connection(server):
    assert b"connection: close" in exchange(server, b"GET / HTTP/1.0\r\n\r\n")
    after = b"GET /after HTTP/1.1\r\n\r\n"
    received = exchange(server, b"GET /first HTTP/1.1\r\n" + CLOSE + after)
    assert b"/first" in received and b"/after" not in received


def test_a_reply_to_head_has_no_body(server):
    received = exchange(server, b"HEAD / HTTP/1.1\r\n" + CLOSE)
    assert b"content-length: 5" in received and received.endswith(b"\r\n\r\n")


def test_continue_is_said_to_a_client_that_waits_for_it(server):
    head = b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with server.client() as client:
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(b"ok")
        assert client.recv(65536).endswith(b"POST ok")


@pytest.mark.parametrize(
    "body_headers",
    [b"Content-Length: 300001", b"Transfer-Encoding: chunked"],
    ids=["told", "chunked"],
)
def test_a_body_over_the_limit_is_refused_and_not_kept(server, body_headers):
    body = b"x" * (LIMIT + 1)
    if b"chunked" in body_headers:
        body = f"{LIMIT + 1:x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    with server.client() as client:
        client.sendall(b"POST /big HTTP/1.1\r\n" + body_headers + b"\r\n\r\n" + body)
        received = client.recv(65536)
        assert received.startswith(b"HTTP/1.1 413 ") and b"300,000 bytes" in received
        client.sendall(b"POST /next HTTP/1.1\r\nContent-Length: 2\r\n\r\nok")
        assert client.recv(65536).endswith(b"POST ok")
    assert [each.path for each in server.echo.seen] == ["/next"]


def test_a_request_is_refused_by_its_head(server):
    received = exchange(
        server, b"POST /refused HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    )
    assert received.startswith(b"HTTP/1.1 404 Not Found") and not server.echo.seen


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1e1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
        b"GET / HTTP/1.1\r\nName : value\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_400_and_an_end(server, sent):
    received = exchange(server, sent)
    assert received.startswith(b"HTTP/1.1 400 Bad Request") and b"close" in received
    assert not server.echo.seen


def test_headers_without_end_are_refused(server):
    sent = b"GET / HTTP/1.1\r\n" + b"X-Y: " + b"z" * MOST_HEADER_BYTES
    assert exchange(server, sent).startswith(b"HTTP/1.1 431 ")


def test_a_fault_of_the_application_is_one_requests_own(server, caplog):
    sent = b"GET /broken HTTP/1.1\r\n\r\nGET /next HTTP/1.1\r\n" + CLOSE
    received = exchange(server, sent)
    assert received.startswith(b"HTTP/1.1 500 ") and b"x-path: /next" in received
    assert "a fault" in caplog.text


def test_an_upgrade_is_refused(server):
    sent = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert b" 501 " in exchange(server, sent)


def test_a_client_that_leaves_is_forgotten_and_its_reply_dropped(server):
    with server.client() as client:
        client.sendall(b"GET /late HTTP/1.1\r\n\r\n")
        while not server.echo.late:
            server.call(lambda: None)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    for _ in range(100):
        server.call(lambda: None)
        if not server.connections:
            break
    [(request, answer)] = server.echo.late
    server.call(lambda: answer(Echo.reply(request)))
    assert not server.connections


def test_a_client_that_has_sent_all_gets_its_reply(server):
    with server.client() as client:
        client.sendall(b"GET /late HTTP/1.1\r\n\r\n")
        while not server.echo.late:
            server.call(lambda: None)
        client.shutdown(socket.SHUT_WR)
        [(request, answer)] = server.echo.late
        server.call(lambda: answer(Echo.reply(request)))
        assert until_closed(client).endswith(b"GET ")


@pytest.mark.parametrize("closes", [True, False], ids=["closes", "sends no more"])
def test_it_is_told_whether_somebody_waits_for_a_reply(server, tmp_path, closes):
    """On a unix socket, as workers have: TCP tells no difference between the two."""
    path = str(tmp_path / "socket")
    made = server.loop.create_unix_server(
        lambda: Connection(server.echo, server.connections, LIMIT, server.held), path
    )
    asyncio.run_coroutine_threadsafe(made, server.loop).result(5)

    def is_wanted() -> bool:
        found: list[bool] = []
        server.call(lambda: found.append(server.echo.late[0][0].is_wanted()))
        return found[0]

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"GET /late HTTP/1.1\r\n\r\n")
        while not server.echo.late:
            server.call(lambda: None)
        assert is_wanted()
        if closes:
            client.close()
        else:
            client.shutdown(socket.SHUT_WR)
        server.call(lambda: None)  # it reads that
        assert is_wanted() is not closes
        [(request, answer)] = server.echo.late
        server.call(lambda: answer(Echo.reply(request)))
