"""Named keys for inference: the file that they rest in, as hashes.

Each client has a key of its own, which can be limited and removed without the others. The file is
written whole and may be edited by hand; the front follows it.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from shipway.errors import ShipwayError
from shipway.files import atomic_write

FORMAT = 1
KEY_PREFIX = "shipway_"
"""So that scanners for leaked secrets can find keys."""
KEY_BYTES = 32
KEY_LENGTH = len(KEY_PREFIX) + 43
"""In characters: 32 bytes as base64url."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
HASH = re.compile(r"[0-9a-f]{64}")
MOST_REQUESTS_PER_SECOND = 1_000_000
"""More than any server answers."""
LOCKED_WITHIN_S = 5.0
"""How long a command waits for another one that changes the keys."""
MOST_KEYS = 1000
"""All keys are part of Envoy's configuration, which it reads again for each change."""


class KeysError(ShipwayError):
    """The keys cannot be read, or not be changed in this way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is kept of a key."""

    name: str
    sha256: str
    """Of the key, in hexadecimal. A fast hash will do: nobody can try 2**256 keys, as one could
    try passwords."""
    requests_per_second: int | None = None
    """The most that it may send. None: as many as it likes."""
    created: str | None = None
    """ISO 8601, UTC."""

    def __post_init__(self) -> None:
        """Raises KeysError."""
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise KeysError(
                f"{self.name!r} cannot be the name of a key. Use up to 63 letters, digits, dots, "
                "hyphens and underscores, beginning with a letter or a digit."
            )
        if not isinstance(self.sha256, str) or not HASH.fullmatch(self.sha256):
            raise KeysError(
                f"The sha256 of the key {self.name} is not a hash: 64 hexadecimal digits in lower "
                "case were expected."
            )
        limit = self.requests_per_second
        if limit is not None and (
            type(limit) is not int or not 1 <= limit <= MOST_REQUESTS_PER_SECOND
        ):
            raise KeysError(
                f"{limit!r} requests per second cannot be the limit of the key {self.name}. Give "
                f"a whole number from 1 to {MOST_REQUESTS_PER_SECOND:,}."
            )
        if self.created is not None and not isinstance(self.created, str):
            raise KeysError(f"The field created of the key {self.name} is not a text.")


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys in a file, by name; none if there is no file. Raises KeysError."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KeysError(f"{path} cannot be read: {reason}. {_ADVICE}") from error
    try:
        return _parsed(json.loads(text))
    except KeysError as error:
        raise KeysError(f"{path} is not a valid file of keys: {error} {_ADVICE}") from error
    except (ValueError, RecursionError) as error:
        raise KeysError(f"{path} is not valid JSON: {error}. {_ADVICE}") from error


def add_key(path: Path, name: str, requests_per_second: int | None = None) -> str:
    """Makes a key and keeps its hash; returns the key, which is kept nowhere. Raises KeysError."""
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    added = Key(
        name=name,
        sha256=hash_of(key),
        requests_per_second=requests_per_second,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(path):
        before = read_keys(path)
        if any(each.name == name for each in before):
            raise KeysError(
                f"There is a key {name} already. Choose another name, or remove that key with "
                f"`shipway key remove {name}`."
            )
        if len(before) >= MOST_KEYS:
            raise KeysError(
                f"There are {len(before)} keys already, as many as a server may have. Remove some "
                "with `shipway key remove`."
            )
        _write(path, (*before, added))
    return key


def remove_key(path: Path, name: str) -> None:
    """Forgets a key. Raises KeysError."""
    if not path.parent.is_dir():
        raise _unknown(name, ())
    with _locked(path):
        before = read_keys(path)
        left = [each for each in before if each.name != name]
        if len(left) == len(before):
            raise _unknown(name, before)
        _write(path, left)


def hash_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeysFile:
    """The file of keys as the front follows it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self.keys: tuple[Key, ...] = ()
        """The last that could be read. None at first: a file that cannot be read lets nobody in."""

    def look(self) -> str | None:
        """Reads the file if it has changed. Returns what is wrong with it, once for each change."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            seen: tuple[int, ...] = ()
        except OSError as error:
            seen = (error.errno or 0,)
        else:
            seen = (status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode)
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            self.keys = read_keys(self._path)
        except KeysError as error:
            in_force = f"{len(self.keys)} keys that were read before" if self.keys else "no keys"
            return f"{error} Until then, {in_force} are in force."
        return None


_ADVICE = "Correct the file, or remove it and make new keys with `shipway key add`."


def _parsed(found: Any) -> tuple[Key, ...]:
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise KeysError(f'An object with "format": {FORMAT} was expected.')
    _refuse_others(found, {"format", "keys"}, "The file")
    entries = found.get("keys")
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise KeysError('A list of objects was expected as "keys".')
    if len(entries) > MOST_KEYS:
        raise KeysError(f"It has {len(entries)} keys; {MOST_KEYS} are allowed.")
    known = {each.name for each in fields(Key)}
    keys = []
    for entry in entries:
        where = f"The key {entry.get('name')!r}"
        _refuse_others(entry, known, where)
        if missing := [each for each in ("name", "sha256") if each not in entry]:
            raise KeysError(f"{where} has no {' and no '.join(missing)}.")
        keys.append(Key(**entry))
    for what in ("name", "sha256"):
        values = [getattr(key, what) for key in keys]
        if twice := [value for value in values if values.count(value) > 1]:
            raise KeysError(f"Two keys have the {what} {twice[0]}.")
    return tuple(sorted(keys, key=lambda key: key.name))


def _refuse_others(found: dict[str, Any], known: set[str], where: str) -> None:
    if others := sorted(found.keys() - known):
        raise KeysError(
            f"{where} has the unknown field {others[0]!r}. Known are {', '.join(sorted(known))}."
        )


def _write(path: Path, keys: Iterable[Key]) -> None:
    entries = [asdict(key) for key in sorted(keys, key=lambda key: key.name)]
    text = json.dumps({"format": FORMAT, "keys": entries}, indent=2) + "\n"
    atomic_write(path, text, durable=True, private=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # Two commands at the same time: each would write without the other's key.
    lock = path.with_suffix(".lock")
    try:
        with FileLock(lock, timeout=LOCKED_WITHIN_S):
            yield
    except Timeout as error:
        raise KeysError(
            f"Another command is changing the keys and holds {lock}. Try again when it has "
            "finished."
        ) from error


def _unknown(name: str, keys: Iterable[Key]) -> KeysError:
    names = ", ".join(key.name for key in keys)
    return KeysError(
        f"There is no key {name!r}. The keys are: {names}."
        if names
        else f"There is no key {name!r}: there are no keys. Make one with `shipway key add`."
    )
