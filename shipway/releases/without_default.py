"""Models without a default version: what the server answers then, and why it is so.

A recorded default that cannot be restored leaves its model without one. No other version takes its
place, because nobody promoted another.
"""

import json
from contextlib import suppress

from shipway.engines.protocol import Engine
from shipway.engines.state import StateDirectory
from shipway.files import atomic_write
from shipway.releases.differences import default_of, versions_on
from shipway.releases.history import Release


def settle(engine: Engine, state: StateDirectory, name: str, release: Release) -> None:
    """Makes a model without a default version answer requests that name none with the reason.

    Requests for a model that has neither a default version nor any other get no reason: the model
    is not registered. Changes nothing if the model has a default version.
    """
    on_server = versions_on(engine, name)
    default = default_of(on_server)
    if default or not release.default:
        note_unrestored(state, name, None)
    if default:
        return
    reason = None
    if release.default:
        cause = "could not be restored" if name in read_unrestored(state) else "is not registered"
        reason = (
            f"{name} has no default version: {release.default} {cause}. Name another version in "
            f"the request. On the server, `shipway ready {name}` shows the cause."
        )
    elif on_server:
        reason = (
            f"{name} has no default version. Name a version in the request, or choose one on the "
            f"server with `shipway promote {name} VERSION`."
        )
    engine.withhold_default(name, reason)


def read_unrestored(state: StateDirectory) -> dict[str, str]:
    """By model, why its default version could not be restored when the server started."""
    with suppress(OSError, ValueError):
        return dict(json.loads(state.unrestored_file.read_bytes()))
    return {}


def note_unrestored(state: StateDirectory, name: str, reason: str | None) -> None:
    """Records why a model's default version could not be restored; None removes the record."""
    unrestored = read_unrestored(state)
    if unrestored.get(name) == reason:
        return
    unrestored.pop(name, None)
    if reason is not None:
        unrestored[name] = reason
    atomic_write(state.unrestored_file, json.dumps(unrestored, indent=2) + "\n")
