from shipway.engines.torchserve.config import parse_properties
from shipway.engines.torchserve.temporary import free_ports, with_free_ports, with_settings

TEXT = """\
inference_address=http://127.0.0.1:8080
grpc_inference_port=7070
job_queue_size=100
"""


def test_every_port_becomes_another_free_one_and_nothing_else_changes():
    values = parse_properties(with_free_ports(TEXT))
    ports = {values["inference_address"].rpartition(":")[2], values["grpc_inference_port"]}
    assert len(ports) == 2
    assert not ports & {"8080", "7070"}
    assert values["inference_address"].startswith("http://127.0.0.1:")
    assert values["job_queue_size"] == "100"


def test_settings_replace_what_the_text_says():
    values = parse_properties(with_settings(TEXT, {"job_queue_size": 5, "vmargs": "-Xmx1g"}))
    assert (values["job_queue_size"], values["vmargs"]) == ("5", "-Xmx1g")
    assert values["grpc_inference_port"] == "7070"


def test_free_ports_are_all_different():
    assert len(set(free_ports(20))) == 20
