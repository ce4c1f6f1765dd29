"""`models.yaml`: which models and versions a server serves, and with which settings.

The same file works for every engine: TorchServe takes a version's archive, other engines take its
artifact. The file is complete: a version that it does not name is not served.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError, model_validator

from shipway.artifact.bundle import Artifact, open_artifact, problems_in
from shipway.artifact.digests import read_small
from shipway.artifact.errors import ArtifactError
from shipway.errors import ShipwayError
from shipway.recipe import Name, Positive, Record, Sha256


class ModelsFileError(ShipwayError):
    """A models file cannot be read, or what it names is missing or cannot be served with it."""


class Model(Record):
    """One version of a model."""

    name: Name
    version: Name
    """Needs quotes in the file: YAML reads 1.10 as the number 1.1."""
    default: bool | None = None
    """Whether it answers requests that name no version. Optional for a model's only version."""
    archive: Path | None = None
    """The .mar, relative to this file. NAME-VERSION.mar in the model store by default."""
    artifact: Path | None = None
    """The folder that it was packaged from, for engines that open artifacts themselves."""
    sha256: Sha256 | None = None
    """The archive's SHA-256. Engines that serve archives refuse a file with another one."""
    workers: Positive | None = None
    """Worker processes. Without this and the two fields below, the engine takes the tuned values,
    or else the archive's own."""
    batch_size: Positive | None = None
    max_batch_delay_ms: Annotated[int, Field(ge=0)] | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class ModelsFile(Record):
    """All versions that a server should serve. Each model has one default."""

    models: tuple[Model, ...]

    @model_validator(mode="after")
    def _one_default_each(self) -> "ModelsFile":
        duplicates = [name for name, count in Counter(map(str, self.models)).items() if count > 1]
        if duplicates:
            raise ValueError(f"{duplicates[0]} is listed twice")
        for name in self.names:
            versions = self.versions_of(name)
            defaults = [model.version for model in versions if model.default]
            if len(defaults) > 1:
                raise ValueError(f"{name} has two defaults, {defaults[0]} and {defaults[1]}")
            if not defaults and (len(versions) > 1 or versions[0].default is False):
                raise ValueError(
                    f"no version of {name} has `default: true`; set it for one version"
                )
        return self

    @property
    def names(self) -> list[str]:
        """The names of the models, in the file's order."""
        return list(dict.fromkeys(model.name for model in self.models))

    def versions_of(self, name: str) -> list[Model]:
        """The versions of one model, in the file's order."""
        return [model for model in self.models if model.name == name]

    def default_of(self, name: str) -> Model:
        """The version of a model that answers requests that name no version."""
        versions = self.versions_of(name)
        return next((model for model in versions if model.default), versions[0])


def read_models(path: Path) -> ModelsFile:
    """Reads a models file and makes its paths absolute. Raises ModelsFileError."""
    try:
        content = yaml.load(read_small(path), Loader=_UniqueKeyLoader)
        if not isinstance(content, dict):
            raise ModelsFileError(
                f"{path} has no `models:` with a list of versions. Write one, with `name` and "
                "`version` for each."
            )
        file = ModelsFile.model_validate(content)
    except (ArtifactError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelsFileError(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        raise ModelsFileError(f"{path}: {problems_in(error)}{_advice(error)}") from error
    folder = path.absolute().parent
    return ModelsFile(models=tuple(_located(model, folder) for model in file.models))


def open_model(model: Model) -> Artifact:
    """Opens the artifact of a version.

    Raises ArtifactError, or ModelsFileError if the file names none or one of another version.
    """
    if model.artifact is None:
        raise ModelsFileError(
            f"The models file has no `artifact` for {model}. Set it to the folder that "
            "`shipway export` wrote."
        )
    artifact = open_artifact(model.artifact)
    manifest = artifact.manifest
    check_serves(
        model, model.artifact, manifest.name, manifest.version, max_batch=manifest.max_batch
    )
    return artifact


def check_serves(
    model: Model, path: Path, name: str, version: str, *, max_batch: int | None
) -> None:
    """Checks that the file or folder at `path` is the version that the models file describes.

    `max_batch` is the most rows that it can run at once, None if unknown. Raises ModelsFileError.
    """
    if (name, version) != (model.name, model.version):
        raise ModelsFileError(
            f"{path} contains {name} {version}, but the models file says {model}. Correct the path "
            "or the version."
        )
    if model.batch_size and max_batch and model.batch_size > max_batch:
        raise ModelsFileError(
            f"The models file says batch_size: {model.batch_size} for {model}, which runs at most "
            f"{max_batch} rows at once. Lower batch_size."
        )


def write_models(path: Path, models: Iterable[Model]) -> None:
    """Writes a models file that `read_models` reads. Fields that are not set are left out."""
    content = {"models": [model.model_dump(mode="json", exclude_none=True) for model in models]}
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _located(model: Model, folder: Path) -> Model:
    paths = {key: getattr(model, key) for key in ("archive", "artifact")}
    return model.model_copy(
        update={key: folder / path for key, path in paths.items() if path is not None}
    )


def _advice(error: ValidationError) -> str:
    kinds = {(problem["type"], problem["loc"][-1:]) for problem in error.errors()}
    if not kinds.isdisjoint({("string_type", ("name",)), ("string_type", ("version",))}):
        return '. Put names and versions in quotes, for example version: "1.0"'
    if any(kind == "extra_forbidden" for kind, _ in kinds):
        return f". The keys of a model are {', '.join(Model.model_fields)}"
    return ""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML without Python objects. A key that is given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (key_node, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
        return super().construct_mapping(node, deep)
