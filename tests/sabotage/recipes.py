"""The recipe of each case, for the recipe files that the study writes."""

from shipway.recipe import Recipe
from tests.sabotage.broken import MODELS, PROGRAMS
from tests.sabotage.sound import SOUND, recipe_from


def recipe_for(name: str, group: str, plugin: str | None) -> Recipe:
    """The recipe of a case of `group`, with a plugin that registers a technique."""
    sound = {
        "SOUND": SOUND,
        "MODELS": {key: broken.sound for key, broken in MODELS.items()},
        "PROGRAMS": {key: sabotaged.sound for key, sabotaged in PROGRAMS.items()},
    }[group][name]
    return recipe_from(name, sound, plugins=[plugin] if plugin else [])
