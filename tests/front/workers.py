"""A worker as the front knows it, where most of what it says of itself does not matter."""

from shipway.front.registered import Announced


def announced(name: str = "cats", version: str = "1.0", pid: int = 1, **said: object) -> Announced:
    """By default one that no starter replaces."""
    fields = {
        "began": 1,
        "starter": pid,
        "starter_began": 1,
        "socket": f"/{pid}",
        "answer_within_s": 60.0,
    }
    return Announced(name=name, version=version, pid=pid, **fields | said)  # type: ignore[arg-type]
