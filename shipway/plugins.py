"""Plugins: modules that a recipe names. They register a task, a technique or a runtime backend.

A plugin is a file beside the recipe that names it in `plugins`. It is sealed in the artifact's
folder plugins/ and packed into the archive, since the server's workers see the archive alone.
"""

import importlib.util
import sys
from collections.abc import Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path

from shipway.errors import ShipwayError


class PluginError(ShipwayError):
    """A plugin that does not exist, or that cannot be imported."""


class _LoaderWithoutBytecode(SourceFileLoader):
    """Writes no `__pycache__`: an artifact must hold the files that were sealed, and no others."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Writes nothing."""


_loaded: dict[str, Path] = {}
"""The file from which each plugin was imported last."""


def load_plugins(names: Iterable[str], folder: Path) -> list[Path]:
    """Imports each module from its file NAME.py in `folder`; returns the files.

    A module that was imported from the same file is not imported again. Raises PluginError.
    """
    return [_load(name, folder / f"{name}.py") for name in names]


def is_plugin(name: str) -> bool:
    """Whether a module of that name was loaded as a plugin."""
    return name in _loaded


def _load(name: str, path: Path) -> Path:
    if not path.is_file():
        raise PluginError(
            f"There is no plugin {name!r}: {path} does not exist. A plugin is a file NAME.py "
            "next to the recipe that lists it in `plugins`."
        )
    previous = sys.modules.get(name)
    if previous is not None and _file_of(previous) == path.resolve():
        _loaded[name] = path
        return path
    if name in sys.stdlib_module_names or (previous is not None and name not in _loaded):
        raise PluginError(
            f"The plugin {path} has the name of another module, {name!r}. Rename its file, and the "
            "name in the recipe's `plugins`."
        )
    loader = _LoaderWithoutBytecode(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # a loader is given
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except Exception as error:
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
        raise PluginError(
            f"The plugin {path} cannot be imported: {type(error).__name__}: {error}. Correct "
            "the plugin."
        ) from error
    _loaded[name] = path
    return path


def _file_of(module: object) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None
