"""Ways to make a program of a module: one file for each, which may hold several variants."""

from shipway.export.techniques.base import Technique
from shipway.registry import Registry

TECHNIQUES: Registry[Technique] = Registry(
    "technique", __name__, apart=("base", "applicability", "cuda")
)


def register(*techniques: Technique) -> None:
    """Adds techniques by their names."""
    for technique in techniques:
        TECHNIQUES.register(technique.name)(technique)


def in_order() -> dict[str, Technique]:
    """Every technique, in the order in which they are tried: what others build on comes first."""
    techniques = TECHNIQUES.all().items()
    return dict(sorted(techniques, key=lambda item: item[1].order))
