"""What TorchServe starts, watches and ends in place of a worker, which is forked from a template.

    python -I -S starter.py …/ts/model_service_worker.py ARGUMENTS

It listens on the socket that TorchServe names and passes on what is said there. If the worker dies
while TorchServe waits for nothing, it forks another one and loads the same model, which TorchServe
does not notice: TorchServe itself would pause longer before each further start. Where a worker
cannot be forked, this process becomes one through worker.py.

Only the standard library is imported, to take little time and memory.
"""

import contextlib
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TEMPLATE_VARIABLE = "SHIPWAY_TEMPLATE"
"""The environment variable with the socket of the template, in the folder where workers announce
themselves. Only archives whose code serves requests directly are forked."""
STARTER_VARIABLE = "SHIPWAY_STARTER"
"""In a forked worker: the id of the process that TorchServe started for it."""
SERVES_DIRECTLY = Path("shipway/serving/direct.py")
"""In an archive that serves requests directly."""
WORKER = Path(__file__).with_name("worker.py")
TEMPLATE_WITHIN_S = 30.0
"""How long the template may take to be there: it imports for some seconds, and may be restarted."""
TEMPLATE_ANSWERS_WITHIN_S = 5.0
IMPOSSIBLE_SUFFIX = ".impossible"
"""Of the file beside the template's socket that says why no worker can be forked."""
LOADS_WITHIN_S = 120.0
"""How long a further worker may take to load the model. The same as in the configuration of our
archives; the first load is TorchServe's to watch."""
LOOKS_EVERY_S = 0.5
"""How often TorchServe is looked for, while a worker is waited for."""
END_OF_REPLY = b"\xff\xff\xff\xff"
"""Of a reply in TorchServe's protocol with its workers: the end of its list of predictions, -1."""
LISTENS_WITHIN_S = 30.0
"""How long a forked worker may take to listen."""
ENDS_WITHIN_S = 1.0
"""How long after its connection a worker's process may take to end, for the log."""
DEATHS_KEPT = 20
PAUSE_S = 0.01
CHUNK_BYTES = 2**18
OK = 200  # of a reply in TorchServe's protocol with its workers


class CannotFork(Exception):
    """A worker cannot be forked from the template."""


class WorkerFailed(Exception):
    """The worker ended before it had loaded its model, or while TorchServe waited for it."""


class Forked:
    """A worker that was forked from the template."""

    def __init__(self, template: Path, arguments: Sequence[str], path: Path) -> None:
        """`arguments` are a worker script and its arguments. It will listen at `path`. Raises
        CannotFork."""
        order = {
            "arguments": list(arguments),
            "folder": str(Path.cwd()),
            "environment": dict(os.environ) | {STARTER_VARIABLE: str(os.getpid())},
        }
        self._template = _template_at(template)
        said = self._ask(json.dumps(order).encode())
        if "pid" not in said:
            raise CannotFork(said["error"])
        self.pid: int = said["pid"]
        self._path = path
        self._connection: socket.socket | None = None

    @property
    def news(self) -> socket.socket:
        """Readable when it has ended."""
        return self._template

    @property
    def connection(self) -> socket.socket:
        """What it is told and says; connects as soon as it listens. Raises WorkerFailed."""
        deadline = time.monotonic() + LISTENS_WITHIN_S
        while self._connection is None:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self._path))
                self._connection = connection
            except OSError as error:
                connection.close()
                if _readable(self._template, within_s=0):
                    raise WorkerFailed(self.how_it_ended()) from error
                if time.monotonic() > deadline:
                    raise WorkerFailed(
                        f"The worker (process {self.pid}) does not listen"
                    ) from error
                time.sleep(PAUSE_S)
        return self._connection

    def how_it_ended(self) -> str:
        """In words, for the log."""
        self._template.settimeout(ENDS_WITHIN_S)
        status = self._read_line().get("status")
        if status is None:
            how = "closed its connection"
        elif os.WIFSIGNALED(status):
            how = f"was ended by signal {os.WTERMSIG(status)}"
        else:
            how = f"ended with status {os.waitstatus_to_exitcode(status)}"
        return f"The worker (process {self.pid}) {how}"

    def close(self) -> None:
        """Closes what leads to it. The template ends it if it still runs."""
        self._template.close()
        if self._connection is not None:
            self._connection.close()

    def _ask(self, order: bytes) -> dict[str, Any]:
        try:
            socket.send_fds(self._template, [struct.pack("!Q", len(order))], [0, 1, 2])
            self._template.sendall(order)
        except OSError as error:
            raise CannotFork(str(error)) from error
        return self._read_line() or {"error": "the template does not answer"}

    def _read_line(self) -> dict[str, Any]:
        """What the template says next; nothing if it has ended."""
        text = bytearray()
        try:
            while not text.endswith(b"\n"):
                if not (part := self._template.recv(1)):
                    return {}
                text += part
        except OSError:
            return {}
        said: dict[str, Any] = json.loads(text)
        return said


class Starter:
    """Passes on what TorchServe and a worker say, and replaces the worker when it dies."""

    def __init__(self, template: Path, arguments: list[str]) -> None:
        """`arguments` are TorchServe's: its worker script, and what the script is to do."""
        self._template = template
        self._parent = os.getppid()
        place = arguments.index("--sock-name") + 1
        self._path = Path(arguments[place])
        # TorchServe's script takes what follows the last point as a number.
        self._worker_path = template.with_name(f"torchserve.{os.getpid()}")
        self._arguments = [*arguments[:place], str(self._worker_path), *arguments[place + 1 :]]
        self._deaths_path = template.with_name(f"{os.getpid()}.deaths")
        self._deaths: list[float] = []
        self._serves: dict[str, str] = {}
        """The name and version that the worker has announced."""
        self._load = bytearray()
        """TorchServe's message to load a model, which each further worker gets as well."""

    def run(self) -> None:
        """Returns when TorchServe hangs up. Raises WorkerFailed and CannotFork."""
        listener = socket.socket(socket.AF_UNIX)
        self._path.unlink(missing_ok=True)
        listener.bind(str(self._path))
        listener.listen(1)
        try:
            worker = self._fork()  # its output tells TorchServe to connect
            torchserve = self._accepted(listener, worker)
            if torchserve is None or not self._load_first(torchserve, worker):
                return
            while self._pass_on(torchserve, worker):
                self._note_death(worker)
                worker.close()
                try:
                    worker = self._fork()
                except CannotFork as error:  # TorchServe starts another one
                    raise WorkerFailed(f"The worker cannot be forked: {error}") from error
                worker.connection.sendall(self._load)
                if (reply := _reply_to_load(worker, torchserve)) is None:
                    return
                self._check_loaded(worker, reply)
        finally:
            for path in (self._path, self._worker_path, self._deaths_path):
                path.unlink(missing_ok=True)

    def _fork(self) -> Forked:
        self._worker_path.unlink(missing_ok=True)
        return Forked(self._template, self._arguments, self._worker_path)

    def _accepted(self, listener: socket.socket, worker: Forked) -> socket.socket | None:
        """TorchServe's connection; None if it has ended. Raises WorkerFailed if the worker ends
        before it has told TorchServe to connect."""
        while os.getppid() == self._parent:
            ready = _readable(listener, worker.news, within_s=LOOKS_EVERY_S)
            if listener in ready:
                return listener.accept()[0]
            if ready:
                raise WorkerFailed(worker.how_it_ended())
        return None

    def _load_first(self, torchserve: socket.socket, worker: Forked) -> bool:
        """Returns when the worker has loaded its model, or with False when TorchServe hangs up."""
        while worker.connection not in _readable(torchserve, worker.connection):
            if not (said := torchserve.recv(CHUNK_BYTES)):
                return False
            self._load += said
            _send(worker.connection, said)
        reply = _reply_to_load(worker, torchserve)
        if reply is not None:
            torchserve.sendall(reply)
            self._check_loaded(worker, reply)
        return reply is not None

    def _check_loaded(self, worker: Forked, reply: bytes) -> None:
        """Raises WorkerFailed if the worker says that it could not load its model."""
        if struct.unpack_from("!i", reply)[0] != OK:
            raise WorkerFailed(f"The worker (process {worker.pid}) could not load its model")
        with contextlib.suppress(OSError, ValueError, KeyError):
            said = json.loads(self._template.with_name(f"{os.getpid()}.json").read_bytes())
            self._serves = {"name": said["name"], "version": said["version"]}

    def _pass_on(self, torchserve: socket.socket, worker: Forked) -> bool:
        """Returns True when the worker has died, False when TorchServe hangs up."""
        # TorchServe waits for a reply from the moment that it has asked for something.
        waits, end = False, b""
        while True:
            ready = _readable(torchserve, worker.connection)
            if worker.connection in ready:
                said = _received(worker.connection)
                if not said and waits:
                    raise WorkerFailed(worker.how_it_ended())
                if not said:
                    return True
                end = (end + said)[-len(END_OF_REPLY) :]
                waits = end != END_OF_REPLY
                torchserve.sendall(said)
            if torchserve in ready:
                if not (said := _received(torchserve)):
                    return False
                waits = True
                _send(worker.connection, said)

    def _note_death(self, worker: Forked) -> None:
        """Tells the log, and whoever looks after the workers of all versions."""
        print(f"{worker.how_it_ended()}. Starting another one.", flush=True)
        self._deaths = [*self._deaths[1 - DEATHS_KEPT :], time.monotonic()]
        said = self._serves | {"pid": os.getpid(), "deaths": self._deaths}
        early = self._deaths_path.with_suffix(".new")
        with contextlib.suppress(OSError):  # a full disk
            early.write_text(json.dumps(said))
            early.replace(self._deaths_path)


def _reply_to_load(worker: Forked, torchserve: socket.socket) -> bytes | None:
    """The whole reply: a status, the length of a message, the message, and the end of a list of
    nothing. None if TorchServe hangs up. Raises WorkerFailed if the worker ends before, or takes
    too long."""
    reply = bytearray()
    length = 8
    deadline = time.monotonic() + LOADS_WITHIN_S
    while len(reply) < length:
        if not _readable(worker.connection, within_s=LOOKS_EVERY_S):
            if _has_hung_up(torchserve):
                return None
            if time.monotonic() > deadline:
                raise WorkerFailed(f"The worker (process {worker.pid}) does not load its model")
            continue
        if not (said := _received(worker.connection)):
            raise WorkerFailed(worker.how_it_ended())
        reply += said
        if len(reply) >= 8:
            length = 8 + struct.unpack_from("!i", reply, 4)[0] + 4
    return bytes(reply)


def _readable(*connections: socket.socket, within_s: float | None = None) -> list[socket.socket]:
    return select.select(connections, [], [], within_s)[0]


def _has_hung_up(connection: socket.socket) -> bool:
    """Whether the other end has hung up and has said nothing more."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _received(connection: socket.socket) -> bytes:
    """What has arrived; nothing if the other end has hung up."""
    try:
        return connection.recv(CHUNK_BYTES)
    except ConnectionError:
        return b""


def _send(connection: socket.socket, said: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # reading tells that it has hung up
        connection.sendall(said)


def _template_at(path: Path) -> socket.socket:
    """Raises CannotFork if there is none within TEMPLATE_WITHIN_S."""
    impossible = path.with_name(f"{path.name}{IMPOSSIBLE_SUFFIX}")
    deadline = time.monotonic() + TEMPLATE_WITHIN_S
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(TEMPLATE_ANSWERS_WITHIN_S)
            connection.connect(str(path))
            return connection
        except OSError as error:
            connection.close()
            if impossible.exists():
                raise CannotFork(impossible.read_text()) from error
            if time.monotonic() > deadline:
                raise CannotFork(f"the template does not answer: {error}") from error
        time.sleep(PAUSE_S)


def become_a_worker(arguments: Sequence[str]) -> None:
    """Runs worker.py in this process."""
    os.execv(sys.executable, [sys.executable, "-P", str(WORKER), *arguments])


def main() -> None:
    """Runs until TorchServe or the worker ends."""
    arguments = sys.argv[1:]
    template = os.environ.get(TEMPLATE_VARIABLE)
    # An archive with other code expects to be started by TorchServe itself.
    if not template or "--sock-name" not in arguments or not SERVES_DIRECTLY.is_file():
        become_a_worker(arguments)
        return
    starter = Starter(Path(template), arguments)
    try:
        starter.run()
    except WorkerFailed as error:
        print(error, flush=True)
    except CannotFork as error:
        print(f"The worker cannot be forked: {error}. It starts by itself.", flush=True)
        become_a_worker(arguments)
    sys.exit(1)


if __name__ == "__main__":
    main()
