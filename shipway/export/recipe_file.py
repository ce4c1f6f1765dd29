"""Finds a recipe by its name or by the path of its file."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from shipway.artifact.bundle import problems_in
from shipway.plugins import is_plugin, load_plugins
from shipway.recipe import InvalidRecipe, Recipe

RECIPES = Path("export/recipes")
"""The folder of recipes in a project."""


def find_recipe(name: str) -> tuple[Recipe, Path]:
    """The recipe in export/recipes/NAME.py, or in the given file, and the file's absolute path.

    Raises InvalidRecipe.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise InvalidRecipe(
                f"There is no recipe file {path}. Check the path, or create a "
                "recipe with `shipway new NAME`."
            )
    else:
        path = _in_project(name)
    module = _import_file(path)
    recipe = getattr(module, "recipe", None)
    if not isinstance(recipe, Recipe):
        raise InvalidRecipe(
            f"{path} defines no `recipe = Recipe(...)`. "
            "`shipway new NAME` writes a recipe to start from."
        )
    load_plugins(recipe.plugins, path.resolve().parent)
    return recipe, path.resolve()


def recipes_folder(start: Path) -> Path | None:
    """The nearest export/recipes/ in `start` or a folder above it, or None."""
    for folder in (start, *start.parents):
        if (folder / RECIPES).is_dir():
            return folder / RECIPES
    return None


def is_in_project(name: str) -> bool:
    """Whether the project of the working directory has a recipe of this name."""
    folder = recipes_folder(Path.cwd())
    return folder is not None and (folder / f"{name}.py").is_file()


def _in_project(name: str) -> Path:
    folder = recipes_folder(Path.cwd())
    own = "To use your own recipe, give its path: shipway export my_recipe.py"
    if folder is None:
        raise InvalidRecipe(
            f"There is no recipe {name!r}: neither this folder nor a parent folder has "
            f"{RECIPES}/. {own}"
        )
    known = sorted(path.stem for path in folder.glob("[a-z]*.py"))
    if name not in known:
        raise InvalidRecipe(
            f"There is no recipe {name!r}. Available recipes: {', '.join(known)}. {own}"
        )
    return folder / f"{name}.py"


_folders: set[Path] = set()
"""The folders of the recipes that were imported."""


def _forget_modules_of_recipes() -> None:
    """Lets a recipe import what is beside it, as it is now: an earlier recipe's `net` may be of
    another folder, or have been edited since. Plugins stay: `load_plugins` takes care of them."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and not is_plugin(name):
            top = name.partition(".")[0]
            starts = [f"{each}/{top}{end}" for each in _folders for end in ("/", ".")]
            if file.startswith(tuple(starts)):
                del sys.modules[name]


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    folder = path.resolve().parent
    _forget_modules_of_recipes()
    _folders.add(folder)
    sys.path.insert(0, str(folder))  # a recipe may import modules beside it
    if folder.parts[-2:] == RECIPES.parts:  # and, in a project, export.training
        sys.path.insert(0, str(folder.parents[1]))
    try:
        spec.loader.exec_module(module)
    except InvalidRecipe:
        raise
    except ValidationError as error:
        raise InvalidRecipe(f"{path}: {error.title} is not valid: {problems_in(error)}") from error
    except Exception as error:
        raise InvalidRecipe(
            f"The recipe {path} could not be imported: {type(error).__name__}: {error}"
        ) from error
    return module
