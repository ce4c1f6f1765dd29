"""What every engine has to do, checked on a real server of each: the life of two versions."""

from collections.abc import Mapping

import numpy as np
import pytest

from shipway.artifact.bundle import Artifact
from shipway.artifact.samples import error_of, file_of
from shipway.engines.errors import (
    DefaultVersionInUse,
    ModelNotFound,
    VersionExists,
    VersionNotFound,
)
from shipway.engines.protocol import Deployable, Engine


def check_life(engine: Engine, artifact: Artifact, first: Deployable, second: Deployable) -> None:
    """Two versions of one artifact, on an engine that serves neither: registered, made the
    default, scaled and unregistered. It serves neither afterwards."""
    name, old, new = first.name, first.version, second.version
    with pytest.raises(ModelNotFound):
        engine.versions(name)
    engine.register(first)
    [only] = engine.versions(name)
    assert (only.version, only.default, only.warm) == (old, True, True)
    assert (only.batch_size, only.max_batch_delay_ms) == (
        first.batch_size,
        first.max_batch_delay_ms,
    )
    assert only in engine.versions()
    check_answers(engine, artifact, None)
    with pytest.raises(VersionExists):
        engine.register(first)

    engine.register(second)
    assert defaults(engine, name) == {old: True, new: False}
    engine.set_default(name, new)
    assert defaults(engine, name) == {old: False, new: True}
    for version in (None, old, new):
        check_answers(engine, artifact, version)
    metadata = engine.describe(name, new)["metadata"]
    assert [each["name"] for each in metadata["inputs"]] == [
        each.name for each in artifact.manifest.inputs
    ]

    with pytest.raises(DefaultVersionInUse):
        engine.unregister(name, new, drain_within_s=1.0)
    for call in (engine.set_default, engine.unregister):
        with pytest.raises(VersionNotFound):
            call(name, "9.9")
        with pytest.raises(ModelNotFound):
            call("nothing", new)
    assert defaults(engine, name) == {old: False, new: True}

    engine.scale(name, new, 2)
    assert {one.version: one.workers_ready for one in engine.versions(name)} == {old: 1, new: 2}
    assert engine.unregister(name, old, drain_within_s=30.0)
    assert defaults(engine, name) == {new: True}
    assert engine.unregister(name, new)
    with pytest.raises(ModelNotFound):
        engine.versions(name)


def check_answers(engine: Engine, artifact: Artifact, version: str | None) -> None:
    """The sealed samples get their sealed outputs, one row at a time."""
    manifest = artifact.manifest
    inputs = samples(artifact, [each.name for each in manifest.inputs])
    outputs = samples(artifact, [each.name for each in manifest.outputs])
    rows = [
        engine.infer(
            manifest.name,
            {key: array[row : row + 1] for key, array in inputs.items()},
            version=version,
        )
        for row in range(2)
    ]
    assert {each.program for each in rows} == {manifest.chosen}
    measures = {measure.name: measure for measure in artifact.certificate.outputs}
    for key, expected in outputs.items():
        found = np.concatenate([each.outputs[key] for each in rows])
        assert error_of(expected[:2], found, measures[key]) < 0.01


def samples(artifact: Artifact, names: list[str]) -> Mapping[str, np.ndarray]:
    return {each: np.load(artifact.path / file_of(each)) for each in names}


def defaults(engine: Engine, name: str) -> dict[str, bool]:
    return {one.version: one.default for one in engine.versions(name)}
