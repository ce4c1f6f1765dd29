"""The command as a whole: what it lists, how fast it starts, how it fails."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from shipway import __version__
from shipway.cli import main as main_module
from shipway.cli.main import app, main
from tests.servers import SHIPWAY

# What takes long to import, and what not every installation has.
HEAVY = {
    *("torch", "onnxruntime", "ts", "grpc", "httpx", "locust", "gevent", "pandas", "ray"),
    *("numpy", "pydantic", "yaml", "jinja2"),
}


def commands_of(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Each command of a group by the words that call it, and those of the groups in it."""
    for name, command in group.commands.items():
        yield above + name, command
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{above}{name} ")


COMMANDS = dict(commands_of(get_command(app)))


def test_the_commands_start_without_heavy_dependencies():
    code = f"import sys, shipway.cli.main; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_listing_models_imports_no_framework(tmp_path):
    code = (
        "import sys, shipway.cli.main\n"
        f"sys.argv = ['shipway', 'models', '--state', {str(tmp_path)!r}]\n"
        "try: shipway.cli.main.main()\n"
        "except SystemExit as end: print(end.code)\n"
        "print(sorted({'torch', 'onnxruntime', 'ts', 'grpc', 'locust', 'pandas'} & "
        "set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "1\n[]\n"
    assert done.stderr.startswith("error: No server is running for")


def test_the_help_lists_every_command_in_the_order_of_a_models_life():
    listed = CliRunner().invoke(app, ["--help"]).output
    places = {name: listed.index(f"│ {name} ") for name in COMMANDS if " " not in name}
    groups = {group.name: group.rich_help_panel for group in app.registered_groups}
    in_order = []
    for panel, commands in main_module.COMMANDS.items():
        in_order += [command.__name__ for command in commands]
        in_order += [name for name, of in groups.items() if of == panel]
    in_order += [name for name, of in groups.items() if of not in main_module.COMMANDS]
    assert sorted(places, key=places.__getitem__) == in_order


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_every_option_has_a_help_text(command):
    """A phrase that stands alone, which a reader needs no other line to understand."""
    found = COMMANDS[command]
    assert found.help and found.help.rstrip().endswith(".")
    for parameter in found.params:
        text = getattr(parameter, "help", None)
        assert text, f"{command} {parameter.name} has no help"
        assert len(text.split()) > 2, f"{command} {parameter.name}: {text}"
        assert not text.startswith(("Likewise", "Of ")), f"{command} {parameter.name}: {text}"


def test_the_version_is_the_packages():
    assert CliRunner().invoke(app, ["--version"]).output == f"shipway {__version__}\n"


def test_python_m_shipway_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "shipway", "--version"], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"shipway {__version__}\n"


@pytest.fixture
def fails(monkeypatch, capsys):
    """Runs the command in this process; returns its exit code and what it printed as errors."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["shipway", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_of_a_copy_to_a_full_disk_the_place_is_told_that_is_full(fails, monkeypatch, tmp_path):
    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "from.py", None, "to.mar")

    monkeypatch.setattr(main_module, "app", full)
    code, said = fails("package", "x")
    assert code == 1 and said.startswith("error: to.mar: No space left on device.")


@pytest.mark.parametrize("arguments", [("regsiter",), ("models", "--jsn"), ("describe",)])
def test_a_typing_mistake_is_explained(fails, arguments):
    code, said = fails(*arguments)
    assert code == 2 and "Usage: " in said


# These run in a process of their own, which leaves the processor to the server.
@pytest.mark.parametrize("arguments", [("promote", "m", "1")])
def test_a_command_that_steps_aside_fails_in_the_same_way(tmp_path, arguments):
    done = subprocess.run(
        [*SHIPWAY, *arguments, "--state", tmp_path / "empty"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: No server is running for")


@pytest.mark.parametrize(
    "arguments",
    [
        ("models",),
        ("describe", "m"),
        ("rollback", "m"),
        ("unregister", "m", "1"),
        ("stop",),
        ("predict", "m", __file__),
        ("bench", "m"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_without_a_server_each_command_says_so_and_fails(fails, tmp_path, arguments):
    code, said = fails(*arguments, "--state", tmp_path / "empty")
    assert code == 1
    assert said.startswith("error: No server is running for")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("models --state file", 2),
        ("ready --state file", 2),
        ("new m --folder file", 2),
        ("new m --folder file/below", 1),
        ("package file", 1),
        ("package folder", 1),
        ("package folder --sign missing.pem", 2),
        ("openapi missing", 1),
        ("serve --config folder", 1),
        ("serve --config missing", 1),
        ("serve --models missing --register missing", 2),
        ("export missing", 1),
        ("export --rechoose folder", 1),
        ("export", 2),
        ("export file --objective fast", 2),
        ("bench", 2),
        ("plan --rate 1 --slo-p99 50ms --from folder", 1),
        ("tune m --slo-p99 50ms --model-store folder", 1),
        ("deploy kubernetes", 1),
        ("deploy kubernetes --models broken.yaml", 1),
        ("deploy ray --models folder --output x.yaml", 1),
        ("deploy ray --min-replicas 9", 2),
    ],
)
def test_a_path_or_a_value_that_is_wrong_is_an_error_in_words(
    fails, tmp_path, monkeypatch, command, code
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.yaml").write_text("models: [")
    found, said = fails(*command.split())
    assert found == code, said
    assert ("error: " if code == 1 else "Usage: ") in said


def test_an_error_that_no_user_can_solve_keeps_its_traceback(monkeypatch):
    def broken(**_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(main_module, "app", broken)
    with pytest.raises(OSError, match="Input/output error"):
        main()
