"""Techniques: ways to make a program of a module.

Each file registers one technique, or variants of one. Techniques also come from installed packages,
by an entry point in the group `shipway.export.techniques`, and from the plugins of a recipe.
"""

from shipway.export.techniques.base import Technique
from shipway.registry import Registry

TECHNIQUES: Registry[Technique] = Registry(
    "technique",
    __name__,
    apart=("base", "applicability", "cuda", "layer_sensitivity", "onnx_int8_weights"),
)


def register(*techniques: Technique) -> None:
    """Registers techniques under their names."""
    for technique in techniques:
        TECHNIQUES.register(technique.name)(technique)


def in_order() -> dict[str, Technique]:
    """Every technique by name, in the order in which an export tries them."""
    techniques = TECHNIQUES.all().items()
    return dict(sorted(techniques, key=lambda item: item[1].order))
