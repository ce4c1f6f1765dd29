"""Which files of this package an archive carries: all that its handler may import."""

import ast
from collections.abc import Iterator
from pathlib import Path

START = ("engines/torchserve/handler.py",)
"""What an archive's handler file imports."""
PARTS = ("tasks", "runtime/backends")
"""Folders whose files are imported by the names in a manifest. All of them are carried."""


OMITTED = "export"
"""Never carried. A plugin may hold a technique beside what serves; it must do without this."""


def serving_code(package: Path, *others: Path) -> list[Path]:
    """The files of `package`, relative to it and sorted: those above and all that they import,
    inside functions too. `others` are files outside of it: the handler and plugins."""
    waiting = [
        *map(Path, START),
        *(path.relative_to(package) for part in PARTS for path in (package / part).glob("*.py")),
    ]
    for path in others:
        waiting += _imported_files(ast.parse(path.read_bytes()), package)
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        # Importing a module imports the packages that it is in.
        waiting += [parent / "__init__.py" for parent in path.parents]
        waiting += _imported_files(ast.parse((package / path).read_bytes()), package)
    return sorted(found)


def _imported_files(tree: ast.AST, package: Path) -> list[Path]:
    """The files of `package` that a module imports."""
    return [path for module in _imported(tree) for path in _files(package, module)]


def _imported(node: ast.AST) -> Iterator[str]:
    """The modules that a file may import, and the names it takes from them, as module.name: a name
    may be a module too. Imports for type checkers alone are left out."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from _imported(child)


def _files(package: Path, module: str) -> list[Path]:
    """The file of a module of this package; none for other modules and for names in modules."""
    first, *rest = module.split(".")
    if first != package.name or rest[:1] == [OMITTED]:
        return []
    stem = Path(*rest)
    candidates = (stem.with_suffix(".py"), stem / "__init__.py") if rest else (Path("__init__.py"),)
    return [path for path in candidates if (package / path).is_file()]
