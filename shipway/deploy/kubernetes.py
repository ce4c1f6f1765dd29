"""A Kustomize folder for given artifacts: the project's manifests, and what is particular to them.

Nothing is rendered here: `kubectl apply -k` and every other reader of Kustomize does that.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from shipway.artifact.bundle import Artifact
from shipway.artifact.digests import format_sums, sha256_of
from shipway.artifact.tuned import Tuned, read_tuned, tuned_path
from shipway.deploy.errors import NotDeployable, NotWritable
from shipway.deploy.versions import read_versions
from shipway.files import shipped
from shipway.releases.models_file import Model, write_models

MANIFESTS = shipped("deploy/kubernetes")
PARTS = ("config", "base", "monitoring", "archives-from-image", "overlays")
KUSTOMIZATION = "kustomization.yaml"
MARK = "# Written by `shipway deploy kubernetes`, which replaces it when it writes here again.\n"
"""The first line of the folder's kustomization.yaml, by which it is known."""
IMAGE = re.compile(
    r"(?P<newName>([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+((/|[._-]+)[a-z0-9]+)*)"
    r"(:(?P<newTag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
"""The name of an image; the groups are what Kustomize calls its parts."""
TUNED = ("workers", "batch_size", "max_batch_delay_ms")
"""What models.yaml can say of what was tuned; workers read their threads from the tuned file."""

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
    tuned: Tuned | None
    """What lies beside the archive, if it was tuned."""

    @property
    def threads(self) -> int:
        """Of each worker."""
        return (self.tuned or self.artifact.manifest).serving.threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one pod asks its node for, as Kubernetes writes it."""

    cpu: str
    memory: str
    memory_limit: str


def read_served(artifacts: Sequence[Path], models: Path | None, model_store: Path) -> list[Served]:
    """The versions to serve, each with its artifact and its archive, all checked.

    Raises what `read_versions` does, NotDeployable for a version without its archive, and
    InvalidManifest for tuned settings that do not read.
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
    """Writes the folder over what it wrote before, and says what a pod will ask for.

    Raises NotDeployable for what is not the name of an image, and NotWritable for a place that
    cannot be written, or that holds what somebody else put there.
    """
    images = {"shipway": image, "shipway-archives": archives_image}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"overlays/{overlay}"],
        "components": ["archives-from-image"] if archives_image is not None else [],
        "images": [_image(name, wanted) for name, wanted in images.items() if wanted is not None],
        "configMapGenerator": [
            {
                "name": "shipway-models",
                "behavior": "replace",
                "files": ["models.yaml", "SHA256SUMS"],
            }
        ],
        "patches": [{"path": "resources.yaml"}],
    }
    needs = needs_of(served)
    sums = format_sums(stored_files(served))
    try:
        _check_ours(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # First, so that a folder that was cut short is known as ours.
        (folder / KUSTOMIZATION).write_text(MARK + _yaml(kustomization))
        for part in PARTS:
            shutil.copytree(MANIFESTS / part, folder / part, dirs_exist_ok=True)
        write_models(folder / "models.yaml", map(_in_a_pod, served))
        (folder / "SHA256SUMS").write_text(sums)
        (folder / "resources.yaml").write_text(_yaml(_resources(needs)))
    except OSError as error:
        raise NotWritable(folder, error.strerror or error) from error
    return needs


def stored_files(served: Sequence[Served]) -> dict[str, str]:
    """What belongs into a pod's model store: the SHA-256 by the name of the file."""
    found = {}
    for each in served:
        name, version = each.model.name, each.model.version
        found[f"{name}-{version}.mar"] = each.digest
        if each.tuned:
            path = tuned_path(each.archive.parent, name, version)
            found[path.name] = sha256_of(path)
    return found


def needs_of(served: Sequence[Served]) -> Needs:
    """From what the artifacts did best with, as tuned or as measured, and their programs' sizes.

    The defaults' threads compute; other versions wait, and take memory alone.
    """
    cpu, mebibytes = SERVER_CPU, float(SERVER_MIB)
    for each in served:
        manifest = each.artifact.manifest
        workers = each.model.workers or manifest.serving.workers
        if each.model.default:
            cpu += workers * each.threads
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
            f"{digest[:12]}…, there it is {model.sha256[:12]}…. Copy the archive again, or correct "
            "the file."
        )
    tuned = read_tuned(archive.parent, model.name, model.version)
    if tuned:
        # A pod is told, though the tuned file belongs into its model store: what models.yaml says
        # is taken back by a rollback of the Deployment, and is not lost where the file is missing.
        unsaid = (key for key in TUNED if getattr(model, key) is None)
        model = model.model_copy(update={key: getattr(tuned.serving, key) for key in unsaid})
    return Served(model=model, artifact=artifact, archive=archive, digest=digest, tuned=tuned)


def _in_a_pod(served: Served) -> Model:
    # Archives are in the model store there, under their usual names.
    return served.model.model_copy(
        update={"archive": None, "artifact": None, "sha256": served.digest}
    )


def _check_ours(folder: Path) -> None:
    mark = folder / KUSTOMIZATION
    ours = mark.is_file() and mark.read_bytes().startswith(MARK.encode())
    if not ours and folder.exists() and any(folder.iterdir()):
        raise NotWritable(
            folder, f"it has files in it, and no {KUSTOMIZATION} that this command wrote"
        )


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
    found = IMAGE.fullmatch(wanted)
    if not found:
        raise NotDeployable(
            f"{wanted!r} is not the name of an image. Write it as NAME:TAG or NAME@sha256:DIGEST, "
            "such as registry.example/shipway:1.0."
        )
    return {"name": name} | {key: part for key, part in found.groupdict().items() if part}


def _yaml(content: Mapping[str, object]) -> str:
    return yaml.safe_dump(content, sort_keys=False)
