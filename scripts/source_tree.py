"""The files of a project as scripts/structure reads them: which are code, and who imports whom."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

CODE = {".py", ".j2", ".html", ".css", ".js", ".sh"}
CODE_NAMES = {"Makefile", "Dockerfile"}
SKIPPED = {"artifacts", "build", "dist", "reports", "__pycache__"}
"""Folders that are no part of the project where git cannot say so."""


@dataclass(frozen=True)
class Module:
    """One Python file, parsed."""

    path: Path
    """Relative to the root."""
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @property
    def name(self) -> str:
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def folder(self) -> str:
        return self.path.parent.as_posix()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedModule:
    """One import of one module, wherever it stands in a file."""

    importer: Module
    name: str
    line: int
    end_line: int
    in_function: bool


@dataclass
class Tree:
    """The files of a project, and what its pyproject.toml says."""

    root: Path
    pyproject: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.pyproject = tomllib.loads((self.root / "pyproject.toml").read_text())

    @cached_property
    def files(self) -> list[Path]:
        """Every file that is part of the project, relative to the root."""
        if (self.root / ".git").exists():
            command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
            listed = subprocess.run(
                command, cwd=self.root, check=True, capture_output=True, text=True
            ).stdout.splitlines()
            paths = sorted({Path(line) for line in listed})
        else:
            paths = sorted(path.relative_to(self.root) for path in self.root.rglob("*"))
            paths = [
                path
                for path in paths
                if not any(part in SKIPPED or part.startswith(".") for part in path.parts)
            ]
        return [path for path in paths if (self.root / path).is_file()]

    @cached_property
    def code(self) -> dict[Path, str]:
        """The text of each file of code outside tests/."""
        texts = {}
        for path in self.files:
            if path.parts[0] == "tests" or "generated" in path.parts:
                continue
            if path.suffix in CODE or path.name in CODE_NAMES or self._starts_with(path, b"#!"):
                texts[path] = (self.root / path).read_text()
        return texts

    def _starts_with(self, path: Path, prefix: bytes) -> bool:
        with (self.root / path).open("rb") as file:
            return file.read(len(prefix)) == prefix

    @cached_property
    def python(self) -> list[Module]:
        """All Python code outside tests/."""
        return [
            Module(path, text)
            for path, text in self.code.items()
            if path.suffix == ".py"
            or (not path.suffix and "python" in text.partition("\n")[0] and text.startswith("#!"))
        ]

    @cached_property
    def package(self) -> str:
        return self.pyproject["project"]["name"]

    @cached_property
    def modules(self) -> dict[str, Module]:
        """The modules of the package, by dotted name."""
        return {
            module.name: module for module in self.python if module.path.parts[0] == self.package
        }

    @cached_property
    def imports(self) -> list[ImportedModule]:
        return [each for module in self.modules.values() for each in self._imports_of(module)]

    def _imports_of(self, module: Module) -> Iterator[ImportedModule]:
        def visit(node: ast.AST, in_function: bool) -> Iterator[ImportedModule]:
            for name in self._names(module, node):
                assert isinstance(node, ast.stmt | ast.expr)
                yield ImportedModule(
                    importer=module,
                    name=name,
                    line=node.lineno,
                    end_line=node.end_lineno or node.lineno,
                    in_function=in_function,
                )
            inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

        yield from visit(module.tree, False)

    def _names(self, module: Module, node: ast.AST) -> Iterator[str]:
        """The modules that a statement (or a call of import_module) imports."""
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.path.parent.parts[: len(module.path.parent.parts) - node.level + 1]
                base = ".".join((*package, *filter(None, [base])))
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                yield submodule if submodule in self.modules else base
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("import_module")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)

    @cached_property
    def edges(self) -> dict[tuple[str, str], ImportedModule]:
        """The first import of each module by each other module of the package."""
        edges: dict[tuple[str, str], ImportedModule] = {}
        for each in self.imports:
            if each.name in self.modules and each.name != each.importer.name:
                edges.setdefault((each.importer.name, each.name), each)
        return edges

    @cached_property
    def dependencies(self) -> set[str]:
        """The names of the distributions that pyproject.toml asks for, extras included, and those
        of requirements/*.in, which cannot be extras."""
        project = self.pyproject["project"]
        lists = [
            project.get("dependencies", []),
            *project.get("optional-dependencies", {}).values(),
            *(path.read_text().splitlines() for path in self.root.glob("requirements/*.in")),
        ]
        names = {re.split(r"[\[<>=!~; ]", line)[0].lower() for lines in lists for line in lines}
        return names - {self.package, "#", ""}
