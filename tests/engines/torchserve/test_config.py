import re

import pytest

from shipway.engines.errors import ConfigError
from shipway.engines.torchserve.config import (
    Addresses,
    Listener,
    default_model_store,
    find_config,
    parse_properties,
    read_config,
    with_settings,
)
from shipway.files import shipped
from tests.servers import REPOSITORY, write_config

HTTP_PORTS = {"inference": 18080, "management": 18081, "metrics": 18082, "exporter": 18404}


def test_properties_are_read_as_java_reads_them():
    text = "# a comment\n! another\n\n a = 1 \nb:2\nc 3\nd=one \\\n   two\ne=a\\=b=c\nf=\n"
    assert parse_properties(text) == {
        "a": "1", "b": "2", "c": "3", "d": "one two", "e": "a=b=c", "f": "",
    }  # fmt: skip


def test_the_projects_own_config_listens_on_loopback_with_torchserves_ports():
    assert read_config(REPOSITORY / "config.properties").addresses == Addresses(
        inference="http://127.0.0.1:8080",
        management="http://127.0.0.1:8081",
        metrics="http://127.0.0.1:8082",
        grpc_inference="127.0.0.1:7070",
        grpc_management="127.0.0.1:7071",
        exporter="http://127.0.0.1:9404",
    )


def test_an_empty_config_means_the_same_addresses(tmp_path):
    (tmp_path / "config.properties").touch()
    empty = read_config(tmp_path / "config.properties")
    assert empty.addresses == read_config(REPOSITORY / "config.properties").addresses


def test_a_server_on_every_interface_is_reached_over_loopback(tmp_path):
    config = read_config(write_config(tmp_path, inference_address="http://0.0.0.0:18080"))
    assert config.inference.host == "0.0.0.0"
    assert config.addresses.inference == "http://127.0.0.1:18080"


def test_environment_variables_are_substituted_as_torchserve_does(tmp_path):
    path = write_config(tmp_path, inference_address="http://127.0.0.1:$$A_PORT$$")
    assert read_config(path, {"A_PORT": "18080"}).inference.port == 18080


@pytest.mark.parametrize(
    "value", ["127.0.0.1:8080", "unix:/tmp/socket", "ftp://127.0.0.1:8443", "http://127.0.0.1"]
)
def test_an_address_that_cannot_be_served_is_refused_by_name(tmp_path, value):
    path = write_config(tmp_path, inference_address=value)
    with pytest.raises(ConfigError, match=re.escape(f"inference_address={value}")):
        read_config(path)


def test_a_port_that_is_none_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="grpc_inference_port=lots"):
        read_config(write_config(tmp_path, grpc_inference_port="lots"))


def test_a_port_given_twice_is_refused_naming_both_uses(tmp_path):
    path = write_config(
        tmp_path, inference_address="http://127.0.0.1:7071", grpc_management_port=7071
    )
    with pytest.raises(ConfigError, match="inference and gRPC management both use port 7071"):
        read_config(path)


def test_the_nearest_config_upward_is_found(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    write_config(tmp_path)
    assert find_config(below) == tmp_path / "config.properties"
    write_config(below)
    assert find_config(below) == below / "config.properties"


def test_where_there_is_no_config_the_one_that_comes_with_shipway_is_found(tmp_path):
    assert find_config(tmp_path) == shipped("config.properties")
    assert read_config(find_config(tmp_path)).inference.port == 8080


def test_the_model_store_is_beside_the_config_and_never_in_the_package(tmp_path):
    own = write_config(tmp_path)
    assert default_model_store(own, tmp_path / "a") == tmp_path / "model_store"
    ours = shipped("config.properties")
    assert default_model_store(ours, tmp_path) == tmp_path / "model_store"
    in_checkout = ours.parent / "deploy"
    assert default_model_store(ours, in_checkout) == ours.parent / "model_store"


def test_a_config_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.properties cannot be read"):
        read_config(tmp_path / "missing.properties")


def test_signatures_are_not_required_unless_the_config_says_so(tmp_path):
    config = read_config(write_config(tmp_path))
    assert not config.require_signature and config.trusted_keys == ()


def test_trusted_keys_lie_beside_the_config_or_where_an_absolute_path_says(tmp_path):
    keys = [tmp_path / "a.pem", tmp_path / "keys" / "b.pem"]
    keys[1].parent.mkdir()
    for key in keys:
        key.touch()
    config = read_config(
        write_config(tmp_path, require_signature="true", trusted_keys=f"{keys[0]}, keys/b.pem")
    )
    assert config.require_signature and config.trusted_keys == tuple(keys)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"require_signature": "true"}, "trusted_keys is empty"),
        ({"require_signature": "yes"}, "Use true or false"),
        ({"trusted_keys": "missing.pem"}, "does not exist"),
    ],
)
def test_a_safeguard_that_would_not_hold_is_refused(tmp_path, settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        read_config(write_config(tmp_path, **settings))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "[::1]"])
def test_a_host_that_is_this_machines_alone_is_known(host):
    assert Listener(purpose="", host=host, port=1).is_on_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.1", "example.com", "localhost.evil"])
def test_any_other_host_is_taken_for_exposed(host):
    assert not Listener(purpose="", host=host, port=1).is_on_loopback


def test_of_a_server_for_others_only_the_inference_addresses_count_as_harmless(tmp_path):
    everywhere = {f"{key}_address": f"http://0.0.0.0:{port}" for key, port in HTTP_PORTS.items()}
    grpc = {"grpc_inference_address": "0.0.0.0", "grpc_management_address": "0.0.0.0"}
    config = read_config(write_config(tmp_path, **everywhere, **grpc))
    assert {each.purpose for each in config.exposed} == {
        "management", "metrics", "gRPC management",
    }  # fmt: skip


CONFIG = "inference_address=http://127.0.0.1:8080\njob_queue_size=100\n# load_models=all\n"


def test_settings_replace_a_line_or_are_added():
    text = with_settings(CONFIG, {"job_queue_size": 7, "max_request_size": 9})
    assert text.count("job_queue_size=") == 1
    assert {"job_queue_size=7", "max_request_size=9", "# load_models=all"} <= set(text.splitlines())


def test_pages_of_other_sites_may_not_ask_unless_the_config_says_which(tmp_path):
    path = tmp_path / "config.properties"
    path.touch()
    assert read_config(path).cors is None
    path.write_text("cors_allowed_origin=https://a.example:8443\ncors_allowed_methods=POST\n")
    cors = read_config(path).cors
    assert cors is not None
    assert (cors.origin, cors.methods) == ("https://a.example:8443", "POST")
    assert "authorization" in cors.headers
    path.write_text("cors_allowed_origin=*\n")
    assert read_config(path).cors is not None


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/path", "https://a, https://b"])
def test_an_origin_that_is_none_is_refused(tmp_path, origin):
    path = tmp_path / "config.properties"
    path.write_text(f"cors_allowed_origin={origin}\n")
    with pytest.raises(ConfigError, match="not an origin"):
        read_config(path)
