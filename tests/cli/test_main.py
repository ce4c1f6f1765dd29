"""The command as a whole: what it lists, how fast it starts, how it fails."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from shipway import __version__
from shipway.cli.main import app
from tests.servers import SHIPWAY

# What takes long to import, and what not every installation has.
HEAVY = {
    *("torch", "onnxruntime", "ts", "grpc", "httpx", "locust", "gevent", "pandas", "ray"),
    *("numpy", "pydantic", "yaml", "jinja2"),
}
COMMANDS = [
    *("new", "export", "package", "openapi", "serve", "ready", "register", "promote", "rollback"),
    *("unregister", "apply", "stop", "models", "describe", "releases", "predict", "bench", "tune"),
    *("plan", "deploy", "deploy kubernetes", "deploy ray"),
]


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
    assert done.stderr.startswith("error: No server is running here")


def test_the_help_lists_every_command_in_the_order_of_a_models_life():
    listed = CliRunner().invoke(app, ["--help"]).output
    places = [listed.index(f"│ {name} ") for name in COMMANDS if " " not in name]
    assert places == sorted(places)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_every_option_has_a_help_text(command):
    """A phrase that stands alone, which a reader needs no other line to understand."""
    from typer.main import get_command

    found = get_command(app)
    for word in command.split():
        found = found.commands[word]
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


@pytest.mark.parametrize("arguments", [("regsiter",), ("models", "--jsn"), ("promote", "echo")])
def test_a_typing_mistake_is_explained_without_a_traceback(arguments):
    done = subprocess.run([*SHIPWAY, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Usage: " in done.stderr and "Traceback" not in done.stderr
