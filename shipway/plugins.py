"""Modules that a recipe brings along: they register a task, a technique or a runtime backend.

A recipe names them in `plugins`. They lie beside it while it is exported, and in the artifact and
its archive from then on, since workers see the archive alone.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path

from shipway.errors import ShipwayError


class PluginError(ShipwayError):
    """A plugin that is not there, or that cannot be imported."""


class _LoaderWithoutBytecode(SourceFileLoader):
    """Writes no `__pycache__`: an artifact must hold the files that were sealed, and no others."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Writes nothing."""


def load_plugins(names: Iterable[str], folder: Path) -> list[Path]:
    """Imports each module from its file NAME.py in `folder`; returns the files.

    Raises PluginError.
    """
    return [_load(name, folder / f"{name}.py") for name in names]


def _load(name: str, path: Path) -> Path:
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return path
    loader = _LoaderWithoutBytecode(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None or not path.is_file():
        raise PluginError(
            f"There is no plugin {name!r}: {path} does not exist. A plugin is a file NAME.py "
            "beside the recipe that names it."
        )
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise PluginError(
            f"The plugin {path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return path
