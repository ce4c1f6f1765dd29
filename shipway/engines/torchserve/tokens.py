"""TorchServe's tokens: read from its key file, sent with requests, renewed when they expire."""

import json
import ssl
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Literal

import httpx

from shipway.engines.errors import Refused
from shipway.engines.state import ServerRecord, StateDirectory
from shipway.engines.torchserve.refusals import TOKEN_REFUSED

Kind = Literal["management", "inference"]
"""Each of TorchServe's two APIs has its own token."""

# TorchServe rewrites its file in place, so a reader may see half of it.
READ_ATTEMPTS = 20
READ_PAUSE_S = 0.05
FOLLOWED_WITHIN_S = 5.0
"""The front follows the file of tokens, so for a moment it refuses one that has just been made."""


def key_file(state: StateDirectory) -> Path:
    """The file with the tokens. TorchServe writes it to the folder in which it was started."""
    return state.path / "key_file.json"


class Tokens:
    """The tokens of one server. Safe to share between threads."""

    def __init__(self, key_file: Path, management: str, trust: ssl.SSLContext) -> None:
        """`management` is the URL of the management API, which renews tokens."""
        self.key_file = key_file
        self._management = management
        self._trust = trust
        self._renewing = threading.Lock()

    def get(self, kind: Kind) -> str | None:
        """The current token; None for a server without token authorization."""
        keys = self._read()
        return keys[kind]["key"] if keys else None

    def renew(self, kind: Kind, *, refused: str | None) -> None:
        """Replaces the token that was `refused`, unless another thread has already done so.

        A renewal invalidates the old token. If many threads are refused at the same time, only the
        first renews it. Raises Refused if the server refuses the API key too.
        """
        with self._renewing:
            keys = self._read()
            if not keys or keys[kind]["key"] != refused:
                return
            answer = httpx.get(
                f"{self._management}/token",
                params={"type": kind},
                headers=bearer(keys["API"]["key"]),
                verify=self._trust,
                trust_env=False,
            )
        if answer.is_error:
            raise Refused(
                f"The server accepts neither the {kind} token nor the API key in {self.key_file}, "
                "so the file is another server's. Start TorchServe from that directory.",
                code=answer.status_code,
                type=TOKEN_REFUSED,
            )

    def _read(self) -> dict[str, dict[str, str]] | None:
        for attempt in range(1, READ_ATTEMPTS + 1):
            try:
                keys: dict[str, dict[str, str]] = json.loads(self.key_file.read_text())
                return keys
            except FileNotFoundError:
                return None
            except ValueError:
                if attempt == READ_ATTEMPTS:
                    raise
                time.sleep(READ_PAUSE_S)
        raise AssertionError("unreachable")


class TokenAuth(httpx.Auth):
    """Sends a token with every HTTP request. If it has expired, renews it and repeats the
    request."""

    requires_response_body = True

    def __init__(self, tokens: Tokens, kind: Kind) -> None:
        self._tokens = tokens
        self._kind: Kind = kind

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Called by httpx. Raises Refused or an error of httpx if a renewal fails."""
        token = self._tokens.get(self._kind)
        request.headers.update(bearer(token))
        answer = yield request
        if is_token_refused(answer):
            self._tokens.renew(self._kind, refused=token)
            for _ in attempts():
                request.headers.update(bearer(self._tokens.get(self._kind)))
                if not is_token_refused((yield request)):
                    return


def attempts() -> Iterator[None]:
    """One for each time that a request should be repeated with a token that was renewed, as long as
    it is refused."""
    deadline = time.monotonic() + FOLLOWED_WITHIN_S
    yield
    while time.monotonic() < deadline:
        time.sleep(READ_PAUSE_S)
        yield


def tokens_of(state: StateDirectory, record: ServerRecord) -> Tokens:
    """The tokens of the server that `record` in `state` describes."""
    return Tokens(key_file(state), record.addresses.management, record.trust)


def bearer(token: str | None) -> dict[str, str]:
    """The header with a token; empty without one. gRPC needs its name in lower case."""
    return {"authorization": f"Bearer {token}"} if token else {}


def is_token_refused(answer: httpx.Response) -> bool:
    """Whether a token is wrong or has expired. TorchServe answers with 400; the front with 401."""
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return True
    return answer.status_code == 400 and TOKEN_REFUSED in answer.text
