"""A real HTTP server that answers every POST at once and notes when it came."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True)
class NotingServer:
    """The server's address, and the moment of time.monotonic() at which each request came."""

    url: str
    moments: list[float] = field(default_factory=list)


@contextmanager
def noting_server() -> Iterator[NotingServer]:
    """On a free port of 127.0.0.1, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            noting.moments.append(time.monotonic())
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        noting = NotingServer(url=f"http://127.0.0.1:{server.server_port}/predictions/m")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield noting
        server.shutdown()
        thread.join()
