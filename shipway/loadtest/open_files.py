"""How many connections a load generator may have: each is an open file of its process."""

import resource

from shipway.loadtest.errors import TooFewFiles
from shipway.loadtest.shapes import AnyShape

BESIDE_CONNECTIONS = 100
"""What the generator has open itself: libraries, pipes, its event loop."""


def check_files(load: AnyShape) -> None:
    """Raises TooFewFiles if the clients that a load starts with cannot all have a connection."""
    needed = load.clients_at_start() + BESIDE_CONNECTIONS
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < needed:
        raise TooFewFiles(
            f"{load.clients_at_start():,} clients need {needed:,} open files, and this process may "
            f"have {most:,}. Raise the limit (`ulimit -Hn {needed}`, or LimitNOFILE= of a systemd "
            "unit), or use fewer clients."
        )


def allow_files(load: AnyShape) -> None:
    """Lets this process open as many files as the clients of a load may need, or as the system
    allows at most."""
    needed = load.clients_at_most() + BESIDE_CONNECTIONS
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now != resource.RLIM_INFINITY and now < needed:
        allowed = needed if most == resource.RLIM_INFINITY else min(needed, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, allowed), most))
