"""Tasks: what requests and answers look like, one file for each.

Tasks also come from installed packages, by an entry point in the group `shipway.tasks`, and from
the plugins of a recipe.
"""

from shipway.registry import Registry
from shipway.tasks.base import Task

TASKS: Registry[type[Task]] = Registry(
    "task",
    __name__,
    apart=("base", "classes", "demo_inputs", "images", "tables", "texts", "values"),
)
