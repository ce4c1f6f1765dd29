"""The project's Markdown pages, taken apart: code, commands, links, headings.

A fenced `console` block is run by test_commands.py if this line stands right before it:

    <!-- test: run -->

A marked `python` block is written to the file that its first line names: `# handlers/tensors.py`.

The commands of a `console` block begin with `$ `. A command goes on in the next line after a `\\`
or a `|` at its end. Other lines are what it prints: each must be printed, in this order. In them
`…` stands for any text, and every number for any number.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parent.parent.parent
RUN = "<!-- test: run -->"
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    REPOSITORY / "CHANGELOG.md",
    REPOSITORY / "shipway/artifact/README.md",
    REPOSITORY / "model_store/README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
NAMES = [str(path.relative_to(REPOSITORY)) for path in PAGES]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that a reader types, and the lines that a page says it prints."""

    text: str
    prints: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @cached_property
    def tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.path.read_text())

    def blocks(self, *languages: str) -> Iterator[tuple[str, bool]]:
        """The fenced blocks in one of these languages, each with whether it is to be run."""
        marked = False
        for token in self.tokens:
            if token.type == "fence" and token.info in languages:
                yield token.content, marked
            marked = token.type == "html_block" and token.content.strip() == RUN

    def commands(self) -> list[Command]:
        """The commands of the `console` blocks, in order."""
        return [command for text, _ in self.blocks("console") for command in commands_in(text)]

    def steps(self) -> list[Command]:
        """What the marked blocks have a reader do, in order; files are written by a command."""
        steps: list[Command] = []
        for text, marked in self.blocks("console", "python"):
            if marked and text.startswith("# "):
                file = shlex.quote(text.partition("\n")[0].removeprefix("# "))
                write = f"mkdir -p $(dirname {file})\ncat > {file} <<'END'\n{text}END"
                steps.append(Command(text=write, prints=()))
            elif marked:
                steps += commands_in(text)
        return steps

    def inline(self, kind: str) -> Iterator[Token]:
        """The inline tokens of a kind: `code_inline`, `link_open`, `image`."""
        for token in self.tokens:
            for child in token.children or ():
                if child.type == kind:
                    yield child

    def code_spans(self) -> list[str]:
        """The text of each `code span`, on one line."""
        return [" ".join(token.content.split()) for token in self.inline("code_inline")]

    def anchors(self) -> set[str]:
        """The fragments that lead to a heading, as GitHub makes them."""
        return {
            slug(following.content)
            for token, following in zip(self.tokens, self.tokens[1:], strict=False)
            if token.type == "heading_open"
        }

    def links(self) -> list[str]:
        """The addresses of all links and pictures."""
        links = [str(token.attrs["href"]) for token in self.inline("link_open")]
        return links + [str(token.attrs["src"]) for token in self.inline("image")]


def slug(heading: str) -> str:
    """The fragment of a heading: lower case, spaces as hyphens, no punctuation."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands_in(block: str) -> Iterator[Command]:
    """The commands of a `console` block."""
    lines = iter(block.splitlines())
    text = ""
    prints: list[str] = []
    for line in lines:
        if line.startswith("$ "):
            if text:
                yield Command(text=text, prints=tuple(prints))
            text, prints = line[2:], []
            while text.rstrip().endswith(("\\", "|")):
                text += "\n" + next(lines)
            if here := re.search(r"<<(\w+)", text):
                while not text.endswith(f"\n{here[1]}"):
                    text += "\n" + next(lines)
        else:
            prints.append(line)
    if text:
        yield Command(text=text, prints=tuple(prints))
