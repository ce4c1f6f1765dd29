"""What is written for Ray Serve, and what is refused, without Ray."""

import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from deploy.ray.config import ROUTER, Version, routes, serve_config
from deploy.ray.errors import NotDeployable
from shipway.artifact.errors import NotAnArtifact
from shipway.cli import build_app
from tests.conftest import REPOSITORY, retold


@pytest.fixture(scope="module")
def newer(tiny_table, tmp_path_factory):
    return retold(tiny_table, tmp_path_factory.mktemp("newer"), version="2.0")


@pytest.fixture(scope="module")
def shipway():
    from deploy.cli import register

    app = build_app()
    if "deploy" not in {each.name for each in app.registered_groups}:
        register(app)
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])


def test_each_version_is_an_application_and_the_router_knows_them_all(tiny_table, newer):
    versions = [Version(artifact=tiny_table), Version(artifact=newer, default=True, cores=3)]
    config = serve_config(versions, port=8123)
    names = [each["name"] for each in config["applications"]]
    assert names == ["tiny-table@1.0", "tiny-table@2.0", ROUTER]
    *models, router = config["applications"]
    assert [each["route_prefix"] for each in models] == [None, None]
    assert models[1]["deployments"][0]["ray_actor_options"] == {"num_cpus": 3, "num_gpus": 0}
    assert models[1]["args"]["digest"] == newer.digest
    assert router["deployments"][0]["user_config"]["models"] == {
        "tiny-table": {
            "default": "2.0",
            "versions": {"1.0": "tiny-table@1.0", "2.0": "tiny-table@2.0"},
        }
    }
    assert config["http_options"]["host"] == "127.0.0.1"
    assert config["http_options"]["port"] == 8123


def test_the_threads_of_a_replica_are_its_cores(tiny_table):
    [model, _] = serve_config([Version(artifact=tiny_table)])["applications"]
    threads = tiny_table.manifest.serving.threads
    assert model["deployments"][0]["ray_actor_options"]["num_cpus"] == threads
    assert model["args"]["threads"] == threads


def test_a_name_has_one_default(tiny_table, newer):
    one, two = Version(artifact=tiny_table, default=True), Version(artifact=newer, default=True)
    with pytest.raises(NotDeployable, match="2 defaults, 1.0 and 2.0"):
        routes([one, two])
    with pytest.raises(NotDeployable, match=r"no default.*--default tiny-table=2.0"):
        routes([Version(artifact=tiny_table), Version(artifact=newer)])
    with pytest.raises(NotDeployable, match="one is twice"):
        routes([one, one])
    assert routes([Version(artifact=newer)])["tiny-table"]["default"] == "2.0"


def test_the_command_writes_the_config_and_asks_no_cluster(
    shipway, tiny_table, tiny_classifier, tmp_path
):
    file = tmp_path / "serve.yaml"
    done = shipway(
        *("deploy", "ray", tiny_table.path, tiny_classifier.path, "--output", file),
        *("--max-replicas", 7),
    )
    assert done.exit_code == 0, done.output
    versions = [Version(artifact=each, replicas=(1, 7)) for each in (tiny_table, tiny_classifier)]
    assert yaml.safe_load(file.read_text()) == serve_config(versions)


def test_the_command_refuses_before_it_writes(shipway, tiny_table, newer, tmp_path):
    file = tmp_path / "serve.yaml"
    both = ("deploy", "ray", tiny_table.path, newer.path, "--output", file)
    two = shipway(*both, "--default", "tiny-table=1.0", "--default", "tiny-table=2.0")
    assert isinstance(two.exception, NotDeployable)
    unknown = shipway(*both, "--default", "tiny-table=3.0")
    assert isinstance(unknown.exception, NotDeployable)
    assert str(unknown.exception).endswith("tiny-table=1.0, tiny-table=2.0.")
    missing = shipway("deploy", "ray", tmp_path / "nothing", "--output", file)
    assert isinstance(missing.exception, NotAnArtifact)
    assert not file.exists()


def run_without_ray(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules['ray'] = None\n{code}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )


def test_without_ray_the_command_names_the_extra(tiny_table):
    done = run_without_ray(
        "import typer, deploy.cli\n"
        "from deploy.ray.errors import RayMissing\n"
        "app = typer.Typer()\n"
        "deploy.cli.register(app)\n"
        f"try: app(['deploy', 'ray', {str(tiny_table.path)!r}], standalone_mode=False)\n"
        "except RayMissing as error: print(error)"
    )
    assert "the extra `ray`" in done.stdout, done.stderr


def test_every_other_part_does_without_ray():
    done = run_without_ray(
        "import pkgutil, importlib\n"
        "import shipway, export, handlers, server, deploy.cli, deploy.ray.config\n"
        "for room in (shipway, handlers, server):\n"
        "    for each in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):\n"
        "        if not each.name.startswith(('handlers.entry', 'server.generated')):\n"
        "            importlib.import_module(each.name)\n"
        "print('imported')"
    )
    assert done.stdout.strip() == "imported", done.stderr
