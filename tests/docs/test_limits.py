"""The figures on the page about limits are those of the code and of config.properties."""

import importlib
import re

import pytest

from shipway.engines.torchserve.config import read_config
from tests.docs.pages import REPOSITORY

PAGE, _, _ = (REPOSITORY / "docs" / "limits.md").read_text().partition("## What hostile")
CONSTANT = re.compile(r"`(shipway(?:\.\w+)+)\.([A-Z_]+)`")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| limit |")
]
OF_CONSTANTS = [row for row in ROWS if len(row) == 5 and CONSTANT.fullmatch(row[2])]


def figures(cell: str) -> set[str]:
    """The numbers in a cell, without their commas."""
    return {each.replace(",", "") for each in re.findall(r"\d[\d,]*", cell)}


def test_every_limit_names_a_test():
    assert len(ROWS) > 25
    assert [row[0] for row in ROWS if len(row) == 5 and "tests/" not in row[4]] == []


@pytest.mark.parametrize("row", OF_CONSTANTS, ids=[row[0] for row in OF_CONSTANTS])
def test_a_limit_is_what_the_code_says(row):
    found = CONSTANT.fullmatch(row[2])
    value = getattr(importlib.import_module(found[1]), found[2])
    number = value.removesuffix("s") if isinstance(value, str) else str(int(value))
    assert number in figures(row[1])


def test_the_settings_have_the_defaults_that_the_page_says():
    config = read_config(REPOSITORY / "config.properties")
    of_setting = {row[2].strip("`"): row[1] for row in ROWS}
    assert f"{config.max_request_bytes / 2**20:g} MiB" == of_setting["max_request_size"]
    assert f"{config.max_response_bytes / 2**20:g} MiB" == of_setting["max_response_size"]
    assert str(config.job_queue_size) == of_setting["job_queue_size"]
    assert (
        f"{config.response_timeout_s:g} s"
        == of_setting["default_response_timeout`, or the archive's"]
    )
