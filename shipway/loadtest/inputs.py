"""The inputs of a load test: files of the user's, or examples for the model's task."""

import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shipway.extras import install_command, is_installed
from shipway.loadtest.errors import NoInput
from shipway.loadtest.load_test import Input
from shipway.tasks import TASKS, demo_inputs
from shipway.tasks.base import Example


def from_files(paths: Sequence[Path]) -> tuple[Input, ...]:
    """An input for each file, and for each file in a folder but hidden ones. Raises NoInput."""
    files = [
        file
        for path in paths
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
        if not (path.is_dir() and (file.is_dir() or file.name.startswith(".")))
    ]
    if not files:
        raise NoInput(
            f"There are no files in {', '.join(map(str, paths))}. Give other files with --input."
        )
    return tuple(map(_from_file, files))


def _from_file(path: Path) -> Input:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise NoInput(
            f"{path} cannot be read: {error.strerror}. Give another file with --input."
        ) from error
    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Input(name=path.name, content_type=content_type, body=body)


def photos() -> tuple[Input, ...]:
    """Real photos as JPEG files; none without the extra `demo`."""
    return _as_inputs(demo_inputs.photos())


def texts() -> tuple[Input, ...]:
    """English sentences; none without the extra `demo`."""
    return _as_inputs(demo_inputs.texts())


def for_task(task: str, tensors: Sequence[Mapping[str, Any]]) -> tuple[Input, ...]:
    """Examples for a model of `task`.

    `tensors` are the model's inputs as the Open Inference Protocol describes them: name, datatype
    and shape, with -1 for a dynamic axis. Raises NoInput if there are no examples.
    """
    is_known = task in TASKS.names()
    inputs = _as_inputs(TASKS.get(task).examples(tensors)) if is_known else ()
    if not inputs:
        raise no_examples(f"a model of the task {task}")
    return inputs


def no_examples(model: str) -> NoInput:
    """The error for a model without example inputs."""
    message = f"There are no example inputs for {model}. Give files to send with --input"
    if not is_installed("demo"):
        message += f", or install the example inputs with `{install_command('demo')}`"
    return NoInput(f"{message}.")


def _as_inputs(examples: Iterable[Example]) -> tuple[Input, ...]:
    return tuple(
        Input(name=example.name, content_type=example.content_type, body=example.body)
        for example in examples
    )
