"""What a model is made of, as the process that builds it has loaded it: code, packages, tensors."""

import hashlib
import io
import re
import site
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

import shipway
from shipway.artifact.digests import sha256_of
from shipway.artifact.errors import Unreadable
from shipway.recipe import Record

MAIN = ("__main__", "__mp_main__")
"""The names of the program that started an export; it is no part of the model."""
CHANGED = "changed after it was loaded"
"""Stands for the digest of a file that is newer than the code that was loaded from it."""
_ADDRESS = re.compile(r"0x[0-9a-f]+")


class Provenance(Record):
    """What a program is made of, beside the inputs and what is known before the recipe runs."""

    code: dict[str, str]
    """SHA-256 by path: each file outside the standard library, the installed distributions and
    Shipway from which a module was loaded."""
    packages: dict[str, str]
    """Versions of the installed distributions of which a module was loaded."""
    module: str
    """SHA-256 of the module: its layers with their settings, its parameters and buffers."""

    def still_true(self) -> bool:
        """Whether the files have the same content and the packages the same versions."""
        return all(digest_of(Path(path)) == found for path, found in self.code.items()) and all(
            _version(name) == found for name, found in self.packages.items()
        )

    def includes(self, other: "Provenance") -> bool:
        """Whether `other` is of the same module, and has no code and no package but those here."""
        return (
            self.module == other.module
            and self.code.items() >= other.code.items()
            and self.packages.items() >= other.packages.items()
        )


def provenance(module: str, since: float) -> Provenance:
    """Of the module with this digest, in this process.

    `since` is the time when the first module of the recipe was loaded, in seconds since 1970.
    """
    return Provenance(code=loaded_code(since), packages=loaded_packages(), module=module)


def loaded_code(since: float) -> dict[str, str]:
    """SHA-256 by path of the files from which this process has loaded the user's code.

    A module of a zip file counts with the whole zip file. The digest of a file that was written
    after `since` is CHANGED, because other code may have been loaded from it.
    """
    code = {}
    for path in {path for module in _modules() if (path := _users_file(*module)) is not None}:
        try:
            newer = path.stat().st_mtime > since
        except OSError:  # it was removed after it was loaded
            newer = True
        code[str(path)] = CHANGED if newer else digest_of(path) or CHANGED
    return code


def loaded_packages() -> dict[str, str]:
    """The versions of the installed distributions of which this process has loaded a module."""
    roots = {name.partition(".")[0] for name, _ in _modules()}
    names = {name for root in roots for name in _distributions().get(root, ())}
    return {name: found for name in sorted(names) if (found := _version(name)) is not None}


def digest_of(path: Path) -> str | None:
    """The SHA-256 of a file; None if it cannot be read."""
    try:
        return sha256_of(path)
    except Unreadable:
        return None


def digest_of_module(module: nn.Module) -> str:
    """SHA-256 of a module's layers with their settings, and of all its parameters and buffers."""
    digest = hashlib.sha256(_ADDRESS.sub("", repr(module)).encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(content_of(tensor))
    return digest.hexdigest()


def content_of(tensor: Tensor) -> bytes:
    """The bytes of a tensor's values; of one that is no plain array, what torch.save writes."""
    plain = tensor.detach()
    if type(plain) is not Tensor or plain.layout != torch.strided or plain.is_quantized:
        saved = io.BytesIO()
        torch.save(plain, saved)
        return saved.getvalue()
    return plain.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _modules() -> Iterator[tuple[str, ModuleType]]:
    """The loaded modules by name, except for the program that was started."""
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and name not in MAIN:
            yield name, module


def _users_file(name: str, module: ModuleType) -> Path | None:
    """The file of a module of the user's; None for all others, and for modules without a file."""
    file = vars(module).get("__file__")  # getattr would import what lazy modules stand for
    if not isinstance(file, str):
        return None
    path = Path(file).absolute()
    if any(path.is_relative_to(folder) for folder in _sites()):
        if name.partition(".")[0] in _distributions():
            return None
    elif any(path.is_relative_to(folder) for folder in _without_users_code()):
        return None
    return next((each for each in (path, *path.parents) if each.is_file()), path)


@cache
def _sites() -> tuple[Path, ...]:
    """The folders into which distributions are installed."""
    named = [*site.getsitepackages(), site.getusersitepackages()]
    named += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return tuple({Path(each).absolute() for each in named})


@cache
def _without_users_code() -> tuple[Path, ...]:
    """The folders of the standard library and of Shipway, whose code the cache's key has."""
    library = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    return tuple({Path(each).absolute() for each in (*library, *shipway.__path__)})


@cache
def _distributions() -> dict[str, list[str]]:
    """The names of installed distributions by the names of the modules that they bring."""
    return dict(packages_distributions())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
