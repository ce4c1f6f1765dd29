"""Named parts of which each is one file: tasks, techniques, runtime backends, engines.

A built-in part is found by its file. Others come from an installed package, by an entry point, or
from a plugin, a module that a recipe names. Each registers itself when its module is imported:

    from shipway.tasks import TASKS

    @TASKS.register("keypoints")
    class Keypoints: ...
"""

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from shipway.errors import ShipwayError

T = TypeVar("T")


class UnknownName(ShipwayError):
    """A name that nothing is registered under."""

    def __init__(self, kind: str, name: str, known: list[str], group: str) -> None:
        super().__init__(
            f"There is no {kind} {name!r}. Known are {', '.join(known) or 'none'}. Another one "
            f"comes from an installed package, by an entry point in the group {group!r}, or from "
            "a module that the recipe names in `plugins`."
        )


class Registry(Generic[T]):
    """The parts of one kind, by name, in the order in which they were registered."""

    def __init__(
        self, kind: str, package: str, *, apart: tuple[str, ...] = (), entry: str | None = None
    ) -> None:
        """`package` holds the built-in parts, one file each, but for the files named `apart`. It
        is also the name of the group of entry points.

        With `entry` each part is a folder instead, and its module of that name registers it.
        """
        self.kind = kind
        self._package = package
        self._apart = apart
        self._entry = entry
        self._parts: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """For a decorator, or a call with the part."""

        def add(part: T) -> T:
            self._parts[name] = part
            return part

        return add

    def get(self, name: str) -> T:
        """The part of that name; only its own file is imported, if it has one. Raises
        UnknownName."""
        if name not in self._parts and name in self._files():
            self._import(name)
        if name not in self._parts:
            for point in entry_points(group=self._package, name=name):
                point.load()
        # A file may hold several parts, so the name may be in another one.
        if name not in self._parts and name not in self.all():
            raise UnknownName(self.kind, name, sorted(self._parts), self._package)
        return self._parts[name]

    def all(self) -> dict[str, T]:
        """Every part, by name."""
        for file in self._files():
            self._import(file)
        for point in entry_points(group=self._package):
            point.load()
        return dict(self._parts)

    def names(self) -> list[str]:
        """Of those that are registered, built in, or announced by an installed package, sorted."""
        announced = {point.name for point in entry_points(group=self._package)}
        return sorted({*self._parts, *self._files(), *announced})

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
