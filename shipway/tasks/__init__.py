"""What models are for: one file for each task, which knows its requests and its answers."""

from shipway.registry import Registry
from shipway.tasks.base import Task

TASKS: Registry[type[Task]] = Registry(
    "task", __name__, apart=("base", "classes", "demo_inputs", "texts")
)
