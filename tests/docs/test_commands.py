"""The commands in the pages exist, with their flags, and those that are marked do what they say.

pages.py says how a block is marked.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import typer.main

from shipway.cli.main import app
from shipway.engines.torchserve.temporary import with_free_ports
from tests.docs.pages import NAMES, PAGES, REPOSITORY, Command, Page

PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*|.*[…{}|\[\]].*")
"""A word that stands for others: NAME, {ARTIFACT…."""
ELSEWHERE = ("pytest", "server")
"""An installed module, and a package that CHANGELOG.md remembers."""
PORTS = re.compile(r"^(\w+_(?:address=https?://[\w.]+:|port=))(\d+)$", re.MULTILINE)
pages = pytest.mark.parametrize("page", [Page(path) for path in PAGES], ids=NAMES)


def typed(page: Page) -> Iterator[list[str]]:
    """The words of every command on a page, in blocks and in `code spans`."""
    texts = [command.text for command in page.commands()]
    texts += [text for text, _ in page.blocks("bash")]
    spans = [code for code in page.code_spans() if re.match(r"(?:shipway|make|python) ", code)]
    for text in texts + spans:
        for line in text.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;|\|(?=\s)(?![^{]*\})|\$\(", line):
                try:
                    words = shlex.split(part, comments=True)
                except ValueError:  # a quote that another part closes
                    words = part.split()
                while words and re.fullmatch(r"\w+=\S*", words[0]):
                    words.pop(0)
                if words:
                    yield words


def unknown_in(words: Sequence[str]) -> list[str]:
    """What of a `shipway` command is no command or flag of the program."""
    command = typer.main.get_command(app)
    rest = list(words[1:])
    while rest and hasattr(command, "commands"):
        if rest[0].startswith("-") or PLACEHOLDER.fullmatch(rest[0]):
            break
        name = rest.pop(0).rstrip(",.")
        if name not in command.commands:
            return [name]
        command = command.commands[name]
    known = {"--help", "-h"}
    for parameter in command.params:
        known.update(parameter.opts + parameter.secondary_opts)
    flags = [flag for word in rest for flag in re.findall(r"^\[?(--?[a-z][\w-]*)", word)]
    return [flag for flag in flags if flag not in known]


@pages
def test_every_shipway_command_and_flag_on_a_page_exists(page):
    unknown = [
        f"{' '.join(words)}: {', '.join(found)}"
        for words in typed(page)
        if words[0] == "shipway" and (found := unknown_in(words))
    ]
    assert unknown == []


@pages
def test_every_make_target_module_and_script_on_a_page_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    missing = []
    for words in typed(page):
        if words[0] == "make":
            names = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            missing += [f"make {name}" for name in names if name not in targets]
        if words[:2] == ["python", "-m"] and words[2].partition(".")[0] not in ELSEWHERE:
            module = REPOSITORY / words[2].replace(".", "/")
            if not (module.with_suffix(".py").exists() or (module / "__main__.py").exists()):
                missing.append(" ".join(words))
        script = words[1] if words[0] == "python" and len(words) > 1 else ""
        if script.startswith("scripts/") and not (REPOSITORY / script).exists():
            missing.append(" ".join(words))
    assert missing == []


def test_a_flag_that_does_not_exist_is_noticed():
    assert unknown_in(["shipway", "export", "flowers.py", "--only", "onnx_fp32"]) == []
    assert unknown_in(["shipway", "export", "--onyl", "onnx_fp32"]) == ["--onyl"]
    assert unknown_in(["shipway", "deploy", "ray", "--cores", "2"]) == []
    assert unknown_in(["shipway", "destroy"]) == ["destroy"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder as a reader's, with ports that nobody uses; no server is left in it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    settings = (REPOSITORY / "config.properties").read_text()
    (tmp_path / "config.properties").write_text(with_free_ports(settings))
    yield tmp_path
    if (tmp_path / ".shipway" / "server.json").exists():
        run(tmp_path, [Command(text="shipway stop", prints=())])


def run(folder: Path, commands: Sequence[Command]) -> list[str]:
    """Runs commands one after the other in one shell; returns what each printed.

    Ports in them become those of the folder's config.properties.
    """
    default = (REPOSITORY / "config.properties").read_text()
    changed = (folder / "config.properties").read_text()
    ports = dict(
        zip(
            (port for _, port in PORTS.findall(default)),
            (port for _, port in PORTS.findall(changed)),
            strict=True,
        )
    )
    mark = "---- the output of command"
    script = "set -euo pipefail\n" + "".join(
        f"echo '{mark}'\n{command.text}\n" for command in commands
    )
    script = re.sub(r"(127\.0\.0\.1:)(\d+)", lambda found: found[1] + ports[found[2]], script)
    environment = {name: value for name, value in os.environ.items() if name != "SHIPWAY_STATE"}
    environment |= {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "COLUMNS": "200"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout.split(f"{mark}\n")[1:]


def pattern(line: str) -> re.Pattern[str]:
    """What a line that a page shows matches: any number for a number, anything for `…`."""
    words = re.sub(r"[█▏▎▍▌▋▊▉]+", "", line).split()
    number = r"\d[\d.,]*(?:e[-+]\d+)?"
    parts = [
        ".*".join(
            r"\d\S*".join(map(re.escape, re.split(number, piece))) for piece in word.split("…")
        )
        for word in words
    ]
    return re.compile(r"\s+".join(parts))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "names",
    [("README.md", "docs/serving.md", "docs/packaging.md"), ("docs/first-model.md",)],
    ids=lambda names: names[0],
)
def test_marked_commands_work_and_print_what_the_page_shows(folder, names):
    for name in names:
        commands = Page(REPOSITORY / name).steps()
        assert commands, f"{name} marks no block"
        for command, printed in zip(commands, run(folder, commands), strict=True):
            lines = iter(printed.splitlines())
            for shown in filter(str.strip, command.prints):
                expected = pattern(shown)
                assert any(expected.search(line) for line in lines), (
                    f"{name} says that `{command.text}` prints {shown!r}; it prints\n{printed}"
                )


def test_a_line_that_is_shown_matches_what_is_printed_but_for_numbers():
    assert pattern("packaged flowers 1.0: (0.4 MB, …)").search(
        "packaged flowers 1.0: (12.5 MB, onnx_fp32)"
    )
    assert not pattern("packaged flowers").search("packed flowers")
    assert pattern(" 1  second  1  38.2%  ████████").search(" 2  second  0  7.1%  █ ")
