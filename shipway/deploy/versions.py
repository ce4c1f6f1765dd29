"""What is to be deployed: the versions that a command line or a models.yaml names, each opened."""

from collections.abc import Sequence
from pathlib import Path

from shipway.artifact.bundle import Artifact, open_artifact
from shipway.deploy.errors import NotDeployable
from shipway.releases.models_file import Model, open_model, read_models


def read_versions(artifacts: Sequence[Path], file: Path | None) -> list[tuple[Model, Artifact]]:
    """The versions, each with its artifact; of each model, `default` is True for one of them.

    They are those of `artifacts`, the last of a name its default, or the file's. Raises
    ArtifactError, ModelsFileError, or NotDeployable where there are none, or both are given, or an
    artifact is there twice.
    """
    if file:
        return _named_by(file, artifacts)
    if not artifacts:
        raise NotDeployable(
            "There is nothing to deploy: name artifacts, or a models.yaml with --models."
        )
    given: dict[tuple[str, str], Artifact] = {}
    for artifact in map(open_artifact, artifacts):
        key = artifact.manifest.name, artifact.manifest.version
        if key in given:
            raise NotDeployable(
                f"{' '.join(key)} is there twice, {given[key].path} and {artifact.path}."
            )
        given[key] = artifact
    last = dict(given.keys())
    return [
        (Model(name=name, version=version, default=last[name] == version), artifact)
        for (name, version), artifact in given.items()
    ]


def _named_by(file: Path, artifacts: Sequence[Path]) -> list[tuple[Model, Artifact]]:
    if artifacts:
        raise NotDeployable(
            f"{file} says all that is served, and {artifacts[0]} is given too. Name artifacts or "
            "--models; in the file, `artifact` says where a version's artifact is."
        )
    wanted = read_models(file)
    # A server that runs may be told to serve nothing (`shipway apply`); to start many that serve
    # nothing is a mistake.
    if not wanted.models:
        raise NotDeployable(
            f"There is nothing to deploy: {file} names no model. Give it one under `models`."
        )
    return [
        (
            model.model_copy(update={"default": model is wanted.default_of(model.name)}),
            open_model(model),
        )
        for model in wanted.models
    ]
