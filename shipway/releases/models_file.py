"""`models.yaml`: which models a server has, in which versions, and how each is served.

One file for every engine that serves them: TorchServe takes a version's archive, others its
artifact. It says all there is to be: a version that it does not name is not served.
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
    """A models file that does not read, or that names what is not there or cannot be served so."""


class Model(Record):
    """One version of a model."""

    name: Name
    version: Name
    """Written in quotes: YAML takes 1.10 for the number 1.1."""
    default: bool | None = None
    """Whether it answers requests that name no version; may be left out where it is alone."""
    archive: Path | None = None
    """The .mar, from where this file lies; NAME-VERSION.mar in the model store if not given."""
    artifact: Path | None = None
    """The folder that it was packaged from, for engines that open it themselves."""
    sha256: Sha256 | None = None
    """Of the archive: any other file is refused, where archives are served."""
    workers: Positive | None = None
    """Processes. This and the two below are the engine's to choose, if not given: as tuned, or the
    archive's own."""
    batch_size: Positive | None = None
    max_batch_delay_ms: Annotated[int, Field(ge=0)] | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class ModelsFile(Record):
    """All versions that a server is to have. Each model has one default."""

    models: tuple[Model, ...]

    @model_validator(mode="after")
    def _one_default_each(self) -> "ModelsFile":
        twice = [each for each, times in Counter(map(str, self.models)).items() if times > 1]
        if twice:
            raise ValueError(f"{twice[0]} is there twice")
        for name in self.names:
            versions = self.versions_of(name)
            defaults = [each.version for each in versions if each.default]
            if len(defaults) > 1:
                raise ValueError(f"{name} has two defaults, {defaults[0]} and {defaults[1]}")
            if not defaults and (len(versions) > 1 or versions[0].default is False):
                raise ValueError(f"none of the versions of {name} says `default: true`")
        return self

    @property
    def names(self) -> list[str]:
        """Of the models, in the file's order."""
        return list(dict.fromkeys(each.name for each in self.models))

    def versions_of(self, name: str) -> list[Model]:
        """Of one model, in the file's order."""
        return [each for each in self.models if each.name == name]

    def default_of(self, name: str) -> Model:
        """Answers requests that name no version."""
        versions = self.versions_of(name)
        return next((each for each in versions if each.default), versions[0])


def read_models(path: Path) -> ModelsFile:
    """The file, the paths in it made absolute. Raises ModelsFileError naming all that is wrong."""
    try:
        content = yaml.load(read_small(path), Loader=_NoKeyTwice)
        if not isinstance(content, dict):
            raise ModelsFileError(
                f"{path} has no `models:` with a list of versions, each with `name` and `version`."
            )
        found = ModelsFile.model_validate(content)
    except (ArtifactError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelsFileError(f"{path} does not read: {error}") from error
    except ValidationError as error:
        raise ModelsFileError(f"{path}: {problems_in(error)}{_advice(error)}") from error
    folder = path.absolute().parent
    return ModelsFile(models=tuple(_located(each, folder) for each in found.models))


def open_model(model: Model) -> Artifact:
    """The artifact of a version. Raises ArtifactError, or ModelsFileError for one without, and for
    one that is another version."""
    if model.artifact is None:
        raise ModelsFileError(
            f"The models file names no artifact of {model}: give it `artifact`, the folder that "
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
    """Raises ModelsFileError if what lies at `path` is not that model's version, or cannot run so
    many rows at once; `max_batch` is None if that is not known."""
    if (name, version) != (model.name, model.version):
        raise ModelsFileError(
            f"{path} is {name} {version}; the models file says {model}. Correct one of them."
        )
    if model.batch_size and max_batch and model.batch_size > max_batch:
        raise ModelsFileError(
            f"{model} takes at most {max_batch} rows at once; the models file says "
            f"batch_size: {model.batch_size}."
        )


def write_models(path: Path, models: Iterable[Model]) -> None:
    """Writes a models file that `read_models` reads; what is not set is left out."""
    content = {"models": [each.model_dump(mode="json", exclude_none=True) for each in models]}
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _located(model: Model, folder: Path) -> Model:
    places = {key: getattr(model, key) for key in ("archive", "artifact")}
    return model.model_copy(
        update={key: folder / place for key, place in places.items() if place is not None}
    )


def _advice(error: ValidationError) -> str:
    kinds = {(each["type"], each["loc"][-1:]) for each in error.errors()}
    if not kinds.isdisjoint({("string_type", ("name",)), ("string_type", ("version",))}):
        return '. Write names and versions in quotes: version: "1.0"'
    if any(kind == "extra_forbidden" for kind, _ in kinds):
        return f". The keys of a model are {', '.join(Model.model_fields)}"
    return ""


class _NoKeyTwice(yaml.SafeLoader):
    """YAML without objects, and without the last of two equal keys winning unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (where, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", where.start_mark
                )
        return super().construct_mapping(node, deep)
