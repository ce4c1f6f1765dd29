"""The versions to deploy, as a command line or a models.yaml names them."""

from collections.abc import Sequence
from pathlib import Path

from shipway.artifact.bundle import Artifact, open_artifact
from shipway.deploy.errors import NotDeployable
from shipway.releases.models_file import Model, open_model, read_models


def read_versions(artifacts: Sequence[Path], file: Path | None) -> list[tuple[Model, Artifact]]:
    """Opens every version to deploy. One version of each model has `default=True`.

    Give either `artifacts`, where the last artifact of a model is its default, or the path of a
    models file. Raises ArtifactError, ModelsFileError, or NotDeployable if both or neither are
    given, or if a version is given twice.
    """
    if file:
        return _named_by(file, artifacts)
    if not artifacts:
        raise NotDeployable(
            "Nothing to deploy. Give artifact folders, or a models.yaml file with --models."
        )
    given: dict[tuple[str, str], Artifact] = {}
    for artifact in map(open_artifact, artifacts):
        key = artifact.manifest.name, artifact.manifest.version
        if key in given:
            raise NotDeployable(
                f"{' '.join(key)} is given twice: {given[key].path} and {artifact.path}. "
                "Give only one of them."
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
            f"Both {file} and {artifacts[0]} were given. Give either artifacts or --models. In a "
            "models.yaml file, set `artifact` to the artifact folder of a version."
        )
    models_file = read_models(file)
    # `shipway apply` may empty a running server, but deploying servers that serve nothing is a
    # mistake.
    if not models_file.models:
        raise NotDeployable(f"Nothing to deploy: {file} lists no model. Add one under `models`.")
    return [
        (
            model.model_copy(update={"default": model is models_file.default_of(model.name)}),
            open_model(model),
        )
        for model in models_file.models
    ]
