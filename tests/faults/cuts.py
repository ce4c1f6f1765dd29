"""Connections that break: a way to a server that tears them after so many bytes."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NEVER = 1 << 62
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SMALL_BUFFER = 4096
"""Of what a server has sent and nobody has read."""


class _Way(threading.Thread):
    """One connection, passed on in both directions until one of them has had its bytes."""

    def __init__(self, client: socket.socket, server: socket.socket, up: int, down: int) -> None:
        super().__init__(daemon=True)
        self._ends = (client, server)
        self._limits = (up, down)

    def run(self) -> None:
        client, server = self._ends
        back = threading.Thread(target=self._pass, args=(server, client, self._limits[1]))
        back.start()
        self._pass(client, server, self._limits[0])
        back.join()

    def _pass(self, source: socket.socket, sink: socket.socket, limit: int) -> None:
        with suppress(OSError):
            while limit > 0 and (data := source.recv(min(limit, SMALL_BUFFER))):
                sink.sendall(data)
                limit -= len(data)
        for each in self._ends:
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def torn(server: str, *, up: int = NEVER, down: int = NEVER) -> Iterator[str]:
    """HOST:PORT that leads to `server`, HOST:PORT too, until `up` bytes went there or `down` came
    back; then both ends are reset."""
    host, _, port = server.rpartition(":")

    def accept() -> None:
        with suppress(OSError):  # closed below
            while True:
                client, _ = listener.accept()
                onward = socket.socket()
                onward.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
                onward.connect((host, int(port)))
                _Way(client, onward, up, down).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


class Slow:
    """A client that sends a request over HTTP a few bytes at a time."""

    def __init__(self, server: str, request: bytes) -> None:
        host, _, port = server.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._left = request

    def send(self, count: int) -> None:
        now, self._left = self._left[:count], self._left[count:]
        self._socket.sendall(now)

    def finish(self) -> bytes:
        """The status line of the answer, once all that is left was sent."""
        self.send(len(self._left))
        return self._socket.makefile("rb").readline()

    def close(self) -> None:
        self._socket.close()
