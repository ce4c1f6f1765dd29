"""What is written for Ray Serve, and what is refused, without Ray."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from shipway.cli.deploy_ray import ray_version
from shipway.cli.main import app
from shipway.deploy.errors import NotDeployable, NotWritable
from shipway.deploy.kubernetes import read_served
from shipway.deploy.versions import read_versions
from shipway.engines.ray.config import ROUTER, Version, routes, serve_config
from shipway.errors import ShipwayError
from shipway.releases.apply import check_models
from shipway.releases.models_file import read_models
from tests.conftest import REPOSITORY, retold


@pytest.fixture(scope="module")
def newer(tiny_table, tmp_path_factory):
    return retold(tiny_table, tmp_path_factory.mktemp("newer"), version="2.0")


@pytest.fixture(scope="module")
def shipway():
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])


def versions_of(*artifacts: Artifact, file: Path | None = None) -> list[Version]:
    paths = [each.path for each in artifacts]
    return [ray_version(model, one) for model, one in read_versions(paths, file)]


def applications(*artifacts: Artifact, file: Path | None = None) -> dict[str, Any]:
    config = serve_config(versions_of(*artifacts, file=file))
    return {each["name"]: each for each in config["applications"]}


def test_each_version_is_an_application_and_the_router_knows_them_all(tiny_table, newer):
    versions = [replace(each, cores=3) for each in versions_of(tiny_table, newer)]
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
    model = applications(tiny_table)["tiny-table@1.0"]
    threads = tiny_table.manifest.serving.threads
    assert model["deployments"][0]["ray_actor_options"]["num_cpus"] == threads
    assert model["args"]["threads"] == threads


def test_of_artifacts_alone_the_last_of_a_name_is_the_default(tiny_table, tiny_classifier, newer):
    table = routes(versions_of(newer, tiny_classifier, tiny_table))
    assert {name: each["default"] for name, each in table.items()} == {
        "tiny-table": "1.0",
        "tiny-classifier": "1.0",
    }
    with pytest.raises(NotDeployable, match=r"tiny-table 1\.0 is given twice"):
        versions_of(tiny_table, tiny_table)


@pytest.fixture
def file(tiny_table, newer, tmp_path):
    """Writes a models.yaml beside the artifacts `one` and `two`, the versions of a table."""
    for name, artifact in (("one", tiny_table), ("two", newer)):
        (tmp_path / name).symlink_to(artifact.path)

    def write(models: str) -> Path:
        path = tmp_path / "models.yaml"
        path.write_text(f"models: [{models}]")
        return path

    return write


ONE = 'name: tiny-table, version: "1.0", artifact: one'
TWO = 'name: tiny-table, version: "2.0", artifact: two'


def test_a_models_file_says_what_is_served_and_how(file, tmp_path, tiny_table):
    settings = "default: true, workers: 3, batch_size: 2, max_batch_delay_ms: 0"
    found = applications(file=file(f"{{{ONE}, {settings}}}, {{{TWO}}}"))
    assert found[ROUTER]["deployments"][0]["user_config"]["models"]["tiny-table"] == {
        "default": "1.0",
        "versions": {"1.0": "tiny-table@1.0", "2.0": "tiny-table@2.0"},
    }
    said, unsaid = found["tiny-table@1.0"], found["tiny-table@2.0"]
    assert said["args"]["artifact"] == str(tmp_path / "one"), "from where the file lies"
    batching = ("batch_size", "max_batch_delay_ms")
    assert [said["args"][each] for each in batching] == [2, 0]
    [model] = said["deployments"]
    assert model["max_ongoing_requests"] == 4
    assert model["autoscaling_config"] == {
        **{"min_replicas": 3, "max_replicas": 3},
        "target_ongoing_requests": 2,
    }
    serving = tiny_table.manifest.serving
    assert [unsaid["args"][each] for each in batching] == [
        *(serving.batch_size, serving.max_batch_delay_ms)
    ]
    [model] = unsaid["deployments"]
    scaling = model["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 4)


def test_a_file_of_one_server_is_one_of_the_others(file, tmp_path, tiny_table, newer):
    path = file(f"{{{ONE}, default: true}}, {{{TWO}, workers: 2}}")
    store = tmp_path / "model_store"
    mars = [pack(each, store) for each in (tiny_table, newer)]
    wanted = [
        (each.info.path, each is model.default)
        for model in check_models(read_models(path), store, inspect_mar)
        for each in model.versions
    ]
    assert wanted == [(mars[0], True), (mars[1], False)]
    assert [each.archive for each in read_served([], path, store)] == mars
    assert applications(file=path).keys() == {"tiny-table@1.0", "tiny-table@2.0", ROUTER}


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (f"{{{ONE}, default: true}}, {{{TWO}, default: true}}", "tiny-table has two defaults"),
        (f"{{{ONE}}}, {{{TWO}}}", "no version of tiny-table has `default: true`"),
        (f"{{{ONE}}}, {{{ONE}}}", "tiny-table 1.0 is listed twice"),
        ("", "models.yaml lists no model"),
        (f"{{{ONE}, wokers: 2}}", "The keys of a model are name, version"),
        ('{name: tiny-table, version: "1.0"}', "has no `artifact` for tiny-table 1.0"),
        ('{name: tiny-table, version: "1.0", artifact: gone}', "gone is not an artifact"),
        ('{name: tiny-table, version: "1.0", artifact: two}', "the models file says tiny-table 1"),
        (f"{{{ONE}, batch_size: 99999}}", "runs at most"),
    ],
)
def test_what_a_models_file_cannot_mean_is_refused_before_anything_is_asked(
    shipway, file, tmp_path, models, told
):
    # No cluster is there: it is not looked for.
    command = ("deploy", "ray", "--models", file(models), "--address", "127.0.0.1:1")
    done = shipway(*command)
    assert isinstance(done.exception, ShipwayError)
    assert told in str(done.exception)
    output = tmp_path / "serve.yaml"
    assert told in str(shipway(*command, "--output", output).exception)
    assert not output.exists()


def test_artifacts_and_a_models_file_are_not_given_at_once(shipway, file, tiny_table):
    done = shipway("deploy", "ray", tiny_table.path, "--models", file(f"{{{ONE}}}"))
    assert "Give either artifacts or --models" in str(done.exception)
    neither = shipway("deploy", "ray")
    assert "Nothing to deploy" in str(neither.exception)


def test_the_command_writes_the_config_and_asks_no_cluster(
    shipway, tiny_table, tiny_classifier, tmp_path
):
    file = tmp_path / "serve.yaml"
    done = shipway(
        *("deploy", "ray", tiny_table.path, tiny_classifier.path, "--output", file),
        *("--max-replicas", 7),
    )
    assert done.exit_code == 0, done.output
    versions = [replace(each, scaling=(1, 7)) for each in versions_of(tiny_table, tiny_classifier)]
    assert yaml.safe_load(file.read_text()) == serve_config(versions)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("gone/serve.yaml", "No such file or directory"),
        ("folder", "Is a directory"),
        ("file/serve.yaml", "Not a directory"),
    ],
)
def test_a_config_that_cannot_be_written_is_told_and_leaves_nothing(
    shipway, tiny_table, tmp_path, place, why
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    done = shipway("deploy", "ray", tiny_table.path, "--output", tmp_path / place)
    assert isinstance(done.exception, NotWritable)
    assert f"Cannot write {tmp_path / place}: {why}. Choose another" in str(done.exception)
    assert {each.name for each in tmp_path.rglob("*")} == {"folder", "file"}


@pytest.mark.parametrize("port", [0, 65536])
def test_a_port_that_no_machine_has_is_refused(shipway, tiny_table, port):
    done = shipway("deploy", "ray", tiny_table.path, "--port", port)
    assert done.exit_code == 2
    assert "Invalid value for '--port'" in done.output


def run_without_ray(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules['ray'] = None\n{code}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )


def test_without_ray_the_command_names_the_extra(tiny_table):
    done = run_without_ray(
        "from shipway.cli.main import app\n"
        "from shipway.engines.ray.errors import RayMissing\n"
        f"try: app(['deploy', 'ray', {str(tiny_table.path)!r}], standalone_mode=False)\n"
        "except RayMissing as error: print(error)"
    )
    assert 'the extra "ray"' in done.stdout, done.stderr


def test_every_other_part_does_without_ray():
    done = run_without_ray(
        "import pkgutil, importlib\n"
        "import shipway\n"
        "own = ('shipway.archive.entry', 'shipway.engines.torchserve.generated')\n"
        "own += ('shipway.__main__',)\n"
        "for each in pkgutil.walk_packages(shipway.__path__, 'shipway.'):\n"
        "    if not each.name.startswith((*own, 'shipway.engines.ray')):\n"
        "        importlib.import_module(each.name)\n"
        "print('imported')"
    )
    assert done.stdout.strip() == "imported", done.stderr
