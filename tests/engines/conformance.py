"""What every engine has to do, checked on a real server of each: the life of two versions."""

from collections.abc import Mapping

import numpy as np
import pytest

from shipway.artifact.bundle import Artifact
from shipway.artifact.samples import error_of, file_of
from shipway.engines.errors import (
    DefaultVersionInUse,
    ModelNotFound,
    PredictionFailed,
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
    check_no_default(engine, artifact, first)
    engine.set_default(name, old)
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
    check_withheld_default(engine, artifact, old, new)
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


def check_no_default(engine: Engine, artifact: Artifact, first: Deployable) -> None:
    """A model has no default before one is set, registered or not. Registers the version."""
    name = first.name
    engine.withhold_default(name, "It is away.")
    check_refused(engine, artifact, "It is away.")
    with pytest.raises(ModelNotFound):
        engine.versions(name)
    with pytest.raises(ModelNotFound):
        engine.unregister(name, first.version)
    assert name not in {one.name for one in engine.versions()}
    engine.register(first)
    assert defaults(engine, name) == {first.version: False}
    check_refused(engine, artifact, "It is away.")
    check_answers(engine, artifact, first.version)
    engine.withhold_default(name, None)  # changes nothing beside a version
    check_refused(engine, artifact, "It is away.")
    assert engine.unregister(name, first.version)
    with pytest.raises(ModelNotFound):
        engine.infer(name, row_of(artifact))
    engine.withhold_default(name, "It is away.")
    engine.withhold_default(name, None)
    with pytest.raises(ModelNotFound):
        engine.infer(name, row_of(artifact))
    engine.register(first)
    assert defaults(engine, name) == {first.version: False}
    check_refused(engine, artifact, None)


def check_withheld_default(engine: Engine, artifact: Artifact, old: str, new: str) -> None:
    """A default that is taken away from a model with versions, and given back."""
    name = artifact.manifest.name
    engine.withhold_default(name, "It was taken away.")
    engine.withhold_default(name, "It is still away.")
    assert defaults(engine, name) == {old: False, new: False}
    check_refused(engine, artifact, "It is still away.")
    check_answers(engine, artifact, new)
    engine.set_default(name, new)
    assert defaults(engine, name) == {old: False, new: True}
    check_answers(engine, artifact, None)


def check_refused(engine: Engine, artifact: Artifact, reason: str | None) -> None:
    """A request that names no version gets 503 with the reason."""
    with pytest.raises(PredictionFailed, match=reason) as refused:
        engine.infer(artifact.manifest.name, row_of(artifact))
    assert refused.value.code == 503


def row_of(artifact: Artifact) -> Mapping[str, np.ndarray]:
    inputs = samples(artifact, [each.name for each in artifact.manifest.inputs])
    return {key: array[:1] for key, array in inputs.items()}


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
