"""A Kustomize folder for given artifacts: the project's manifests, and what is particular to them.

Nothing is rendered here: `kubectl apply -k` and every other reader of Kustomize does that.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.errors import NotDeployable
from deploy.versions import read_versions
from shipway.artifact.bundle import Artifact
from shipway.artifact.digests import format_sums, sha256_of
from shipway.models_file import Model, write_models

MANIFESTS = Path(__file__).parent
PARTS = ("config", "base", "monitoring", "archives-from-image", "overlays")

SERVER_CPU = 0.5
"""Processors for what is no model: TorchServe's own threads, the exporter."""
SERVER_MIB = 1536
"""Java with the 1 GiB of heap that config.properties gives it, and the exporter."""
WORKER_MIB = 640
"""A Python process that has imported torch and a runtime, and holds a batch of requests."""
TIMES_ITS_PROGRAM = 3
"""What a runtime holds of a program file: the weights, those it packed anew, the buffers."""
LIMIT_TO_REQUEST = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A version that every pod serves."""

    model: Model
    artifact: Artifact
    archive: Path
    digest: str
    """SHA-256 of the archive."""

    @property
    def stored_as(self) -> str:
        """The name of the archive in a pod's model store."""
        return f"{self.model.name}-{self.model.version}.mar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one pod asks its node for, as Kubernetes writes it."""

    cpu: str
    memory: str
    memory_limit: str


def read_served(artifacts: Sequence[Path], models: Path | None, model_store: Path) -> list[Served]:
    """The versions to serve, each with its artifact and its archive, all checked.

    Raises what `read_versions` does, and NotDeployable for a version without its archive.
    """
    return [
        _served(model, artifact, model_store)
        for model, artifact in read_versions(artifacts, models)
    ]


def write(
    served: Sequence[Served],
    folder: Path,
    *,
    overlay: str,
    image: str | None,
    archives_image: str | None,
) -> Needs:
    """Writes the folder over what it wrote before, and says what a pod will ask for."""
    for part in PARTS:
        shutil.copytree(MANIFESTS / part, folder / part, dirs_exist_ok=True)
    write_models(
        folder / "models.yaml",
        (
            each.model.model_copy(
                # In a pod, archives are in the model store under their usual names.
                update={"archive": None, "artifact": None, "sha256": each.digest}
            )
            for each in served
        ),
    )
    sums = format_sums({each.stored_as: each.digest for each in served})
    (folder / "SHA256SUMS").write_text(sums)
    needs = needs_of(served)
    _write_yaml(folder / "resources.yaml", _resources(needs))
    _write_yaml(
        folder / "kustomization.yaml",
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"overlays/{overlay}"],
            "components": ["archives-from-image"] if archives_image else [],
            "images": [
                *([_image("shipway", image)] if image else []),
                *([_image("shipway-archives", archives_image)] if archives_image else []),
            ],
            "configMapGenerator": [
                {
                    "name": "shipway-models",
                    "behavior": "replace",
                    "files": ["models.yaml", "SHA256SUMS"],
                }
            ],
            "patches": [{"path": "resources.yaml"}],
        },
    )
    return needs


def needs_of(served: Sequence[Served]) -> Needs:
    """From what the artifacts measured best with, and the sizes of their programs.

    The defaults' threads compute; other versions wait, and take memory alone.
    """
    cpu, mebibytes = SERVER_CPU, float(SERVER_MIB)
    for each in served:
        manifest = each.artifact.manifest
        workers = each.model.workers or manifest.serving.workers
        if each.model.default:
            cpu += workers * manifest.serving.threads
        # On a node that the chosen program does not fit, the other one runs.
        programs = (manifest.programs[name] for name in (manifest.chosen, manifest.fallback))
        largest = max(program.bytes for program in programs)
        mebibytes += workers * (WORKER_MIB + TIMES_ITS_PROGRAM * largest / 2**20)
    return Needs(
        cpu=f"{cpu * 1000:.0f}m",
        memory=f"{mebibytes:.0f}Mi",
        memory_limit=f"{mebibytes * LIMIT_TO_REQUEST:.0f}Mi",
    )


def _served(model: Model, artifact: Artifact, model_store: Path) -> Served:
    archive = model.archive or model_store / f"{model.name}-{model.version}.mar"
    if not archive.is_file():
        raise NotDeployable(
            f"{archive} does not exist. `shipway package {artifact.path}` makes it; --model-store "
            "says where archives are."
        )
    digest = sha256_of(archive)
    if model.sha256 not in (None, digest):
        raise NotDeployable(
            f"{archive} is not the archive of {model} that the models file names: its SHA-256 is "
            f"{digest[:12]}…."
        )
    return Served(model=model, artifact=artifact, archive=archive, digest=digest)


def _resources(needs: Needs) -> dict[str, object]:
    container = {
        "name": "shipway",
        "resources": {
            "requests": {"cpu": needs.cpu, "memory": needs.memory},
            "limits": {"memory": needs.memory_limit},
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shipway"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


def _image(name: str, wanted: str) -> dict[str, str]:
    repository, at, digest = wanted.partition("@")
    if at:
        return {"name": name, "newName": repository, "digest": digest}
    repository, colon, tag = wanted.rpartition(":")
    if not colon or "/" in tag:  # no tag; a colon may be of a port
        return {"name": name, "newName": wanted}
    return {"name": name, "newName": repository, "newTag": tag}


def _write_yaml(path: Path, content: dict[str, object]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
