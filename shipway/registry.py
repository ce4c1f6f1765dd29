"""Registries of parts, each of which is one file: tasks, techniques, runtime backends, engines.

A built-in part is found by its file. Others come from an installed package, through an entry
point, or from a plugin, a module that a recipe names. A part is registered when its module is
imported:

    from shipway.tasks import TASKS

    @TASKS.register("keypoints")
    class Keypoints(Task): ...
"""

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Generic, TypeVar

from shipway.errors import ShipwayError

T = TypeVar("T")


class UnknownName(ShipwayError):
    """No part is registered under a name. The message lists the names that are."""

    def __init__(
        self, kind: str, name: str, known: list[str], group: str, *, plugins: bool
    ) -> None:
        super().__init__(
            f"There is no {kind} named {name!r}. Known names: {', '.join(known) or 'none'}. To "
            f"add one, install a package with an entry point in the group {group!r}"
            + (", or list a module in the recipe's `plugins`." if plugins else ".")
        )


class Registry(Generic[T]):
    """The parts of one kind by name, in the order in which they were registered."""

    def __init__(
        self,
        kind: str,
        package: str,
        *,
        apart: tuple[str, ...] = (),
        entry: str | None = None,
        plugins: bool = True,
    ) -> None:
        """`kind` is what messages call a part. `package` holds the built-in parts, one file each,
        except for the helper modules named in `apart`; it is also the name of the entry-point
        group.

        With `entry` each part is a folder instead, and its module of that name registers it.
        `plugins` says whether a recipe's plugins can register such a part.
        """
        self.kind = kind
        self._package = package
        self._apart = apart
        self._entry = entry
        self._plugins = plugins
        self._parts: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Adds a part: a decorator for a class, or called with an object. A later part of the same
        name replaces an earlier one."""

        def add(part: T) -> T:
            self._parts[name] = part
            return part

        return add

    def get(self, name: str) -> T:
        """The part of that name. Imports its own file only, if it has one. Raises UnknownName."""
        if name not in self._parts and name in self._files():
            self._import(name)
        if name not in self._parts:
            for point in entry_points(group=self._package, name=name):
                self._load(point)
        if name not in self._parts and name not in self.all():  # a file may hold several parts
            raise self._unknown(name)
        return self._parts[name]

    def check(self, name: str) -> None:
        """Raises UnknownName unless there is a part of that name. Imports a part's file only if
        no name of a file or of an entry point matches."""
        if name not in self.names() and name not in self.all():
            raise self._unknown(name)

    def all(self) -> dict[str, T]:
        """Every part by name. Imports all files and loads all entry points."""
        for file in self._files():
            self._import(file)
        for point in entry_points(group=self._package):
            self._load(point)
        return dict(self._parts)

    def names(self) -> list[str]:
        """The names of parts that are registered, of built-in files, and of entry points, sorted.
        Imports none of them."""
        announced = {point.name for point in entry_points(group=self._package)}
        return sorted({*self._parts, *self._files(), *announced})

    def _unknown(self, name: str) -> UnknownName:
        known = sorted(self._parts)
        return UnknownName(self.kind, name, known, self._package, plugins=self._plugins)

    def _load(self, point: EntryPoint) -> None:
        part = point.load()
        # A module registers its parts itself. An object may be given as it is.
        if point.name not in self._parts and not isinstance(part, ModuleType):
            self._parts[point.name] = part

    def _import(self, name: str) -> None:
        module = f"{self._package}.{name}"
        importlib.import_module(f"{module}.{self._entry}" if self._entry else module)

    def _files(self) -> list[str]:
        package = importlib.import_module(self._package)
        return [
            module.name
            for module in pkgutil.iter_modules(package.__path__)
            if module.ispkg == bool(self._entry) and module.name not in self._apart
        ]
