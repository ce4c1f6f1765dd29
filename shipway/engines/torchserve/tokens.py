"""TorchServe's tokens: read from the file that it writes, renewed when they have expired."""

import json
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import httpx

from shipway.engines.errors import Refused

Answer = TypeVar("Answer")
Kind = Literal["management", "inference"]

# TorchServe rewrites its file in place, so a reader can meet half of it.
READ_ATTEMPTS = 20
READ_PAUSE_S = 0.05


class Tokens:
    """The tokens of one server. Safe to share between threads."""

    def __init__(self, key_file: Path, management: str, trust: ssl.SSLContext) -> None:
        self.key_file = key_file
        self._management = management
        self._trust = trust
        self._renewing = threading.Lock()

    def get(self, kind: Kind) -> str | None:
        """The token now in force; None for a server that asks for none."""
        keys = self._read()
        return keys[kind]["key"] if keys else None

    def send(
        self,
        kind: Kind,
        request: Callable[[dict[str, str]], Answer],
        is_refused: Callable[[Answer], bool],
    ) -> Answer:
        """Calls `request` with its headers; again, with a new token, if that one has expired."""
        token = self.get(kind)
        answer = request(bearer(token))
        if is_refused(answer):
            self._renew(kind, refused=token)
            answer = request(bearer(self.get(kind)))
        return answer

    def _renew(self, kind: Kind, *, refused: str | None) -> None:
        """Replaces the token that was `refused`, unless somebody did so already.

        A renewal makes the old token useless, so of many threads that were refused at the same
        time only the first may ask for one.
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
                "so the file is another server's. Was TorchServe started from that directory?",
                code=answer.status_code,
                type="InvalidKeyException",
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


def bearer(token: str | None) -> dict[str, str]:
    """The header that shows a token. In lower case, as gRPC insists and HTTP does not mind."""
    return {"authorization": f"Bearer {token}"} if token else {}


def is_token_refused(answer: httpx.Response) -> bool:
    """TorchServe says 400, not 401, to a token that is wrong or has expired."""
    return answer.status_code == 400 and "InvalidKeyException" in answer.text
