"""A misspelt setting is told, not ignored."""

import re
import struct
import zipfile
from pathlib import Path

import pytest
import ts

from shipway.engines.errors import ConfigError
from shipway.engines.torchserve.config import parse_properties, read_config
from shipway.engines.torchserve.setting_names import OURS, TORCHSERVES, check_names
from tests.conftest import REPOSITORY

NO_SETTINGS = {
    *("changeit", "default", "false", "https", "index", "log", "logs", "model_server_home"),
    *("oip", "prometheus", "python", "torchelastic_ts", "true", "ts", "version"),
    *("ts_request_sequence_end", "ts_request_sequence_id", "ts_request_sequence_start"),
}
"""Other texts of that class: values, files, and headers' names."""
CONSTANT, LONG_CONSTANTS = 8, (5, 6)
SIZES = dict.fromkeys((7, 8, 16, 19, 20), 3) | {15: 4} | dict.fromkeys((5, 6), 9)


def texts_of(class_file: bytes) -> set[str]:
    """The string constants of a Java class (The Java Virtual Machine Specification, 4.4)."""
    (count,) = struct.unpack_from(">H", class_file, 8)
    at, place = 10, 1
    texts: dict[int, str] = {}
    used: list[int] = []
    while place < count:
        tag = class_file[at]
        if tag == 1:
            (length,) = struct.unpack_from(">H", class_file, at + 1)
            texts[place] = class_file[at + 3 : at + 3 + length].decode(errors="replace")
            at += 3 + length
        else:
            if tag == CONSTANT:
                used += struct.unpack_from(">H", class_file, at + 1)
            at += SIZES.get(tag, 5)
        place += 2 if tag in LONG_CONSTANTS else 1
    return {texts[each] for each in used}


def test_torchserves_settings_are_those_of_its_own_code():
    jar = Path(ts.__file__).parent / "frontend/model-server.jar"
    with zipfile.ZipFile(jar) as archive:
        found = texts_of(archive.read("org/pytorch/serve/util/ConfigManager.class"))
    words = {each for each in found if re.fullmatch("[a-z][a-z_]+", each)}
    assert words - NO_SETTINGS == TORCHSERVES - {"vmargs"}


def test_the_settings_that_come_with_shipway_have_known_names():
    text = (REPOSITORY / "config.properties").read_text()
    assert set(parse_properties(text)) <= OURS | TORCHSERVES
    check_names(Path("config.properties"), OURS | TORCHSERVES)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("require_signatur", "require_signature"),
        ("requires_signature", "require_signature"),
        ("trusted_key", "trusted_keys"),
        ("disable_token_authorisation", "disable_token_authorization"),
        ("inference_adress", "inference_address"),
        ("Front", "front"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_one_that_was_meant(tmp_path, name, meant):
    path = tmp_path / "config.properties"
    path.write_text(f"{name}=x\n")
    with pytest.raises(ConfigError, match=rf"{name} is not a setting.* Did you mean {meant}\?"):
        read_config(path)


def test_a_setting_of_a_plugin_is_left_alone(tmp_path):
    path = tmp_path / "config.properties"
    path.write_text("plugins_path=/opt/plugins\nmy_plugin_window=3\n")
    read_config(path)
