"""Servers that run our models. Each engine is one folder here, with a module `engine` in it.

An archive carries this file, so it imports nothing but the registry.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from shipway.registry import Registry

if TYPE_CHECKING:
    from shipway.engines.protocol import Engine
    from shipway.engines.state import StateDirectory

ENGINES: "Registry[Callable[[StateDirectory], Engine]]" = Registry(
    "engine", "shipway.engines", entry="engine", plugins=False
)
"""What connects to the server that runs from a state directory, by the engine's name."""
