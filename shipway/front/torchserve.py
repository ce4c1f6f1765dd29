"""What only TorchServe knows: its tokens, and which version of a model is the default."""

import http.client
import json
import time
import urllib.parse
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from shipway.tls import trust

ASK_WITHIN_S = 2.0
DESCRIBE_EVERY_S = 5.0
"""How often it is asked for descriptions, whatever its list of models says."""
OLD_TOKEN_COUNTS_S = 60.0
"""How long a client may go on with a token after it was renewed."""
RENEW_BEFORE_S = 30.0
"""How long before it expires a token is renewed."""


class Management:
    """TorchServe's management API."""

    def __init__(self, address: str, certificate: str | None) -> None:
        """`address` is HOST:PORT, `certificate` the server's PEM file if it is asked with TLS."""
        self._address = address
        self._trust = trust(certificate) if certificate else None

    def ask(self, path: str, token: str | None) -> Any:
        """What it answers, parsed; None if it does not or refuses."""
        if self._trust is None:
            connection = http.client.HTTPConnection(self._address, timeout=ASK_WITHIN_S)
        else:
            connection = http.client.HTTPSConnection(
                self._address, timeout=ASK_WITHIN_S, context=self._trust
            )
        try:
            connection.request(
                "GET", path, headers={"Authorization": f"Bearer {token}"} if token else {}
            )
            answer = connection.getresponse()
            body = answer.read()
            return json.loads(body) if answer.status == http.client.OK else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()


class Tokens:
    """The inference token, and those before it that still count."""

    def __init__(self, key_file: Path, management: Management) -> None:
        """`management` renews tokens."""
        self._key_file = key_file
        self._management = management
        self._old: dict[str, float] = {}
        self._keys: Mapping[str, Any] = {}
        self._changed = 0

    @property
    def current(self) -> str | None:
        """The token that TorchServe takes; None before it has written one."""
        return self._of("inference")

    @property
    def management(self) -> str | None:
        """The token of its management API."""
        return self._of("management")

    def valid(self) -> tuple[str, ...]:
        """All that clients may use now, the current one first."""
        now = time.monotonic()
        self._old = {token: until for token, until in self._old.items() if until > now}
        return (*filter(None, [self.current]), *sorted(self._old))

    def look(self) -> None:
        """Reads the key file if it has changed, and renews a token that is about to expire."""
        path = self._key_file
        try:
            changed = path.stat().st_mtime_ns
            if changed == self._changed:
                return
            keys = json.loads(path.read_text())
            if not isinstance(keys["inference"]["key"], str):
                return
        except (OSError, ValueError, LookupError, TypeError):  # TorchServe rewrites it in place
            return
        before = self.current
        self._keys, self._changed = keys, changed
        if before and before != self.current:
            self._old[before] = time.monotonic() + OLD_TOKEN_COUNTS_S

    def renew(self) -> None:
        """Asks TorchServe for another token in place of each that is about to expire."""
        for kind in ("inference", "management"):
            expires = self._keys.get(kind, {}).get("expiration time")
            if expires and _seconds_until(expires) < RENEW_BEFORE_S:
                key = self._keys.get("API", {}).get("key")
                self._management.ask(f"/token?type={kind}", key)

    def _of(self, kind: str) -> str | None:
        key: str | None = self._keys.get(kind, {}).get("key")
        return key


class Defaults:
    """The default version of each model, as TorchServe says, and whether any has workers."""

    def __init__(self, management: Management) -> None:
        self._management = management
        self._urls: dict[str, str] = {}
        self._described = float("-inf")
        self.versions: Mapping[str, str] = {}
        """By name. Replaced as a whole, so that another thread may read it."""
        self._workers: dict[str, int] = {}
        self.idle = False
        """Whether models are registered, and each is scaled to no worker."""

    def look(self, token: str | None, in_a_hurry: bool) -> None:
        """Asks TorchServe. What was true goes on if it does not answer."""
        urls = self._listed(token)
        if urls is None:
            return
        # A list is cheap, and tells of most changes. A description asks for the memory of GPUs.
        # It is needed if two versions came from archives of one name.
        everything = in_a_hurry or time.monotonic() - self._described > DESCRIBE_EVERY_S
        found = {name: version for name, version in self.versions.items() if name in urls}
        for name, url in urls.items():
            changed = everything or self._urls.get(name) != url
            if changed and (described := self._default_of(name, token)):
                found[name] = described["modelVersion"]
                self._workers[name] = described["minWorkers"]
                self._urls[name] = url
        if everything:
            self._described = time.monotonic()
        self._urls = {name: url for name, url in self._urls.items() if name in urls}
        self._workers = {name: each for name, each in self._workers.items() if name in urls}
        self.versions = found
        self.idle = bool(self._workers) and not any(self._workers.values())

    def _listed(self, token: str | None) -> dict[str, str] | None:
        """The archive of each model's default version, by name."""
        found: dict[str, str] = {}
        page = "0"
        while page:
            answer = self._management.ask(f"/models?limit=100&next_page_token={page}", token)
            if answer is None:
                return None
            found |= {each["modelName"]: each["modelUrl"] for each in answer["models"]}
            page = answer.get("nextPageToken") or ""
        return found

    def _default_of(self, name: str, token: str | None) -> Mapping[str, Any] | None:
        """The description of a model's default version."""
        answer = self._management.ask(f"/models/{urllib.parse.quote(name, safe='')}", token)
        return answer[0] if answer else None


def _seconds_until(moment: str) -> float:
    """Until a moment as TorchServe writes it: 2026-11-30T07:00:00.123456789Z."""
    seconds, _, _ = moment.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{seconds}+00:00").timestamp() - time.time()
