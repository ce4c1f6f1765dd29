"""A process from which workers are forked: it has imported what takes long and is the same in all.

    python -P template.py SOCKET

A request on SOCKET is a JSON object after its length in eight bytes, with the file descriptors of
the worker's standard input, output and error: `arguments` (a script and its arguments), `folder`
and `environment`. The answers are one JSON object a line: `pid` or `error` at once, and `status`
when the worker has ended, as `waitpid` gives it. A worker is killed when the connection that asked
for it closes.

Only packages from outside this project are imported here: each archive carries the code of this
project that it was made with, and imports it after the fork. The process has one thread and opens
no GPU, since neither survives a fork.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMPORTED = (
    *("numpy", "torch", "torch.export", "onnxruntime", "psutil", "yaml"),
    *("PIL.Image", "PIL.ImageOps", "PIL.JpegImagePlugin", "PIL.PngImagePlugin"),
    *("PIL.WebPImagePlugin", "PIL.GifImagePlugin", "PIL.BmpImagePlugin", "PIL.TiffImagePlugin"),
    *("tokenizers", "httptools", "uvloop", "python_multipart", "zstandard"),
    *("google.protobuf.message", "prometheus_client", "filelock", "jsonschema"),
    *("ts.model_service_worker", "ts.model_loader", "ts.service", "ts.context"),
)
"""What workers import, where it is installed."""
ONE_THREAD = {
    # Of libraries that would start threads when they are imported. This project's code multiplies
    # no matrices with NumPy.
    "OPENBLAS_NUM_THREADS": "1",
    # See shipway/__init__.py, which is not imported here.
    "ORT_DISABLE_TELEMETRY": "1",
}
IMPOSSIBLE_SUFFIX = ".impossible"
"""Of the file beside the socket that says why no worker can be forked on this machine. It is
written before the process ends with the status EX_UNAVAILABLE."""
REQUEST_WITHIN_S = 2.0
STANDARD_STREAMS = 3


@dataclass(frozen=True, slots=True)
class Order:
    """A worker to be started."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    streams: list[int]

    def become(self) -> None:
        """Makes this fresh fork look as if the sender of the order had started it."""
        for number, descriptor in enumerate(self.streams):
            os.dup2(descriptor, number)
        for descriptor in self.streams:
            if descriptor >= STANDARD_STREAMS:
                os.close(descriptor)
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        paths = [path for path in self.environment.get("PYTHONPATH", "").split(os.pathsep) if path]
        sys.path[:0] = paths
        sys.argv[:] = self.arguments
        if torch := sys.modules.get("torch"):
            torch.seed()  # other random numbers than in other forks


class Template:
    """Forks workers for whoever asks at a socket."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        # Renamed when it listens: whoever finds it can connect.
        early = path.with_name(f"{path.name}.new")
        early.unlink(missing_ok=True)
        self._listener.bind(str(early))
        early.chmod(0o600)
        self._listener.listen(64)
        early.replace(path)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._workers: dict[int, socket.socket] = {}
        """The connection that asked for a worker, by the worker's process descriptor."""
        self._descriptors: dict[socket.socket, tuple[int, int]] = {}
        """A worker's process descriptor and id, by its connection."""

    def serve(self) -> Order:
        """Returns in forked processes only, with what each is to be."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    if (order := self._accept()) is not None:
                        return order
                # What ended in the same moment may have closed the other already.
                elif isinstance(key.fileobj, socket.socket):
                    if key.fileobj in self._descriptors:
                        self._hung_up(key.fileobj)
                elif key.fd in self._workers:
                    self._ended(key.fd)

    def _accept(self) -> Order | None:
        connection, _ = self._listener.accept()
        connection.settimeout(REQUEST_WITHIN_S)
        order = None
        try:
            order = _received(connection)
            pid = os.fork()
        except Exception as error:  # whatever is wrong with an order, others are still served
            for descriptor in order.streams if order else ():
                os.close(descriptor)
            _tell(connection, error=f"{type(error).__name__}: {error}")
            connection.close()
            return None
        if not pid:
            self._leave()
            connection.close()
            return order
        for descriptor in order.streams:
            os.close(descriptor)
        descriptor = os.pidfd_open(pid)
        self._workers[descriptor] = connection
        self._descriptors[connection] = descriptor, pid
        self._selector.register(descriptor, selectors.EVENT_READ)
        self._selector.register(connection, selectors.EVENT_READ)
        _tell(connection, pid=pid)
        return None

    def _hung_up(self, connection: socket.socket) -> None:
        """Whoever asked for a worker has ended. Its worker ends, too."""
        with contextlib.suppress(OSError):
            if connection.recv(1):
                return
        self._selector.unregister(connection)
        descriptor, _ = self._descriptors[connection]
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    def _ended(self, descriptor: int) -> None:
        connection = self._workers.pop(descriptor)
        _, pid = self._descriptors.pop(connection)
        _, status = os.waitpid(pid, 0)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        _tell(connection, status=status)
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection)
        connection.close()

    def _leave(self) -> None:
        """Closes, in a forked process, what belongs to the template."""
        self._selector.close()
        self._listener.close()
        for descriptor, connection in self._workers.items():
            os.close(descriptor)
            connection.close()


def _received(connection: socket.socket) -> Order:
    """Raises OSError or ValueError for what is not a whole request."""
    head, streams, _, _ = socket.recv_fds(connection, 8, STANDARD_STREAMS)
    try:
        (length,) = struct.unpack("!Q", head)
        text = bytearray()
        while len(text) < length:
            if not (part := connection.recv(length - len(text))):
                raise ValueError("the request ended early")
            text += part
        said: dict[str, Any] = json.loads(text)
        if len(streams) != STANDARD_STREAMS:
            raise ValueError("the request does not carry three file descriptors")
        return Order(said["arguments"], said["folder"], said["environment"], list(streams))
    except BaseException:
        for descriptor in streams:
            os.close(descriptor)
        raise


def _tell(connection: socket.socket, **said: Any) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(said).encode() + b"\n")


def import_all() -> None:
    """Imports what is installed of IMPORTED."""
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def why_not_forkable() -> str | None:
    """Why no worker can be forked from this process, or None."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return "this system has no process descriptors"
    threads = len(list(Path("/proc/self/task").iterdir()))
    return None if threads == 1 else f"an imported package has started threads: {threads} run"


def main() -> None:
    """Serves until it is killed. Returns in workers only, when they end."""
    os.environ.update(ONE_THREAD)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    path = Path(sys.argv[1])
    reason = why_not_forkable()
    if not reason:
        import_all()
        reason = why_not_forkable()
    if reason:
        print(f"Workers cannot be forked: {reason}", flush=True)
        path.with_name(f"{path.name}{IMPOSSIBLE_SUFFIX}").write_text(reason)
        sys.exit(os.EX_UNAVAILABLE)
    # Objects that the garbage collector does not visit stay in memory that all workers share.
    gc.collect()
    gc.freeze()
    order = Template(path).serve()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    order.become()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
