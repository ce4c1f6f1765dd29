"""Puts what a person edits at the top of the repository into the wheel, under shipway/_data.

A build hook and not `force-include`, which would put it into an editable installation as well: a
folder `shipway` in site-packages, beside the checkout that is meant.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DATA = ("handlers", "config.properties", "deploy/kubernetes")
"""Each is found by `shipway.files.shipped`."""


class WheelData(BuildHookInterface[Any]):
    """Adds the data to a standard wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds; `version` is `standard` or `editable`."""
        if version == "standard":
            build_data["force_include"] |= {name: f"shipway/_data/{name}" for name in DATA}
