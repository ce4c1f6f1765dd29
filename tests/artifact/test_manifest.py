"""README.md in the folder of the artifact says what the manifest may hold."""

import re
from pathlib import Path
from typing import Any

import pytest

from shipway.artifact import manifest

README = Path(manifest.__file__).with_name("README.md")
SCHEMA = manifest.Manifest.model_json_schema()
PARTS: dict[str, dict[str, Any]] = SCHEMA["$defs"]
"""The models inside a manifest, by the names of their classes."""


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    """The cells of every table row in the README's section on the manifest."""
    section = README.read_text().partition("## manifest.json")[2].partition("\n## ")[0]
    return [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| `")]


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_field_of_a_manifest_has_a_row(rows):
    described = {name for row in rows for name in names_in(row[0])}
    assert set(SCHEMA["properties"]) - described == set()


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_manifest_has_a_row_with_exactly_its_fields(rows, part):
    described = [names_in(row[1]) for row in rows if names_in(row[0]) == [part]]
    assert described == [list(PARTS[part]["properties"])]
