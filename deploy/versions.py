"""What is to be deployed: the versions that a command line or a models.yaml names, each opened."""

from collections.abc import Sequence
from pathlib import Path

from deploy.errors import NotDeployable
from shipway.artifact.bundle import Artifact, open_artifact
from shipway.models_file import Model, ModelsFile, open_model, read_models


def read_versions(artifacts: Sequence[Path], file: Path | None) -> list[tuple[Model, Artifact]]:
    """The versions, each with its artifact; of each model, `default` is True for one of them.

    Without a file they are those of `artifacts`, the last of a name its default. With one they are
    the file's, and `artifacts` are some that it need not say the place of. Raises ArtifactError,
    ModelsFileError, or NotDeployable for an artifact that is there twice, or not in the file.
    """
    given: dict[tuple[str, str], Artifact] = {}
    for artifact in map(open_artifact, artifacts):
        key = artifact.manifest.name, artifact.manifest.version
        if key in given:
            raise NotDeployable(
                f"{' '.join(key)} is there twice, {given[key].path} and {artifact.path}."
            )
        given[key] = artifact
    wanted = read_models(file) if file else _models_of(given)
    if strange := given.keys() - {(each.name, each.version) for each in wanted.models}:
        raise NotDeployable(f"{file} does not name {' '.join(min(strange))}, which is given too.")
    return [
        (
            model.model_copy(update={"default": model is wanted.default_of(model.name)}),
            given.get((model.name, model.version)) or open_model(model),
        )
        for model in wanted.models
    ]


def _models_of(given: dict[tuple[str, str], Artifact]) -> ModelsFile:
    if not given:
        raise NotDeployable(
            "There is nothing to deploy: name artifacts, or a models.yaml with --models."
        )
    last = dict(given.keys())
    return ModelsFile(
        models=tuple(
            Model(name=name, version=version, default=last[name] == version)
            for name, version in given
        )
    )
