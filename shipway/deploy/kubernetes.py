"""Writes a Kustomize folder that serves given artifacts: the project's manifests and a patch.

Nothing is rendered here. `kubectl apply -k`, Argo CD or Flux renders the folder.
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
"""The first line of the folder's kustomization.yaml. It marks a folder that may be overwritten."""
IMAGE = re.compile(
    r"(?P<newName>([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+((/|[._-]+)[a-z0-9]+)*)"
    r"(:(?P<newTag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
"""The name of a container image. The groups have the names that Kustomize gives the parts."""
TUNED = ("workers", "batch_size", "max_batch_delay_ms")
"""The tuned settings that models.yaml can hold. Workers read their threads from the tuned file."""

SERVER_CPU = 0.5
"""CPUs for TorchServe's own threads and the exporter."""
SERVER_MIB = 1536
"""Java, with the 1 GiB of heap that config.properties sets, and the exporter."""
WORKER_MIB = 640
"""A Python process that has imported torch and a runtime and holds a batch of requests."""
TIMES_ITS_PROGRAM = 3
"""The memory of an open program relative to its file: weights, repacked weights and buffers."""
LIMIT_TO_REQUEST = 1.5
"""The memory limit of a pod relative to its memory request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A version that every pod serves."""

    model: Model
    artifact: Artifact
    archive: Path
    digest: str
    """SHA-256 of the archive."""
    tuned: Tuned | None
    """The tuned settings beside the archive, or None."""

    @property
    def threads(self) -> int:
        """CPU threads of each worker."""
        return (self.tuned or self.artifact.manifest).serving.threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The resources of one pod, in the notation of Kubernetes: `2500m`, `1024Mi`."""

    cpu: str
    memory: str
    memory_limit: str


def read_served(artifacts: Sequence[Path], models: Path | None, model_store: Path) -> list[Served]:
    """Opens and checks every version to serve: its artifact, its archive, its tuned settings.

    Raises the errors of `read_versions`, NotDeployable for a version without an archive, and
    InvalidManifest for tuned settings that cannot be read.
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
    """Writes the folder, replacing what an earlier call wrote; returns the resources of a pod.

    Raises NotDeployable for an invalid image name, and NotWritable for a folder that cannot be
    written or that holds other files.
    """
    images = {"shipway": image, "shipway-archives": archives_image}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"overlays/{overlay}"],
        "components": ["archives-from-image"] if archives_image is not None else [],
        "images": [
            _image(name, reference) for name, reference in images.items() if reference is not None
        ],
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
        # First, so that a folder that was only partly written is recognised the next time.
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
    """The files that a pod's model store needs: their SHA-256 by name."""
    digests = {}
    for version in served:
        name = version.model.name
        digests[f"{name}-{version.model.version}.mar"] = version.digest
        if version.tuned:
            path = tuned_path(version.archive.parent, name, version.model.version)
            digests[path.name] = sha256_of(path)
    return digests


def needs_of(served: Sequence[Served]) -> Needs:
    """The resources of a pod, from the measured or tuned settings and the sizes of the programs.

    Only default versions count towards the CPUs; the others are idle and need memory alone.
    """
    cpu, mebibytes = SERVER_CPU, float(SERVER_MIB)
    for version in served:
        manifest = version.artifact.manifest
        workers = version.model.workers or manifest.serving.workers
        if version.model.default:
            cpu += workers * version.threads
        # The fallback runs on a node that does not support the chosen program.
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
            f"{archive} does not exist. Create it with `shipway package {artifact.path}`, or give "
            "the folder of the archives with --model-store."
        )
    digest = sha256_of(archive)
    if model.sha256 not in (None, digest):
        raise NotDeployable(
            f"{archive} is not the archive that the models file names for {model}: its SHA-256 is "
            f"{digest[:12]}…, expected {model.sha256[:12]}…. Copy the archive again, or correct "
            "the file."
        )
    tuned = read_tuned(archive.parent, model.name, model.version)
    if tuned:
        # The tuned file lies in the pod's model store as well. models.yaml repeats it, since a
        # rollback of the Deployment then restores the settings too, and a missing file loses none.
        unset = (key for key in TUNED if getattr(model, key) is None)
        model = model.model_copy(update={key: getattr(tuned.serving, key) for key in unset})
    return Served(model=model, artifact=artifact, archive=archive, digest=digest, tuned=tuned)


def _in_a_pod(served: Served) -> Model:
    # In a pod the archives lie in the model store, under their usual names.
    return served.model.model_copy(
        update={"archive": None, "artifact": None, "sha256": served.digest}
    )


def _check_ours(folder: Path) -> None:
    mark = folder / KUSTOMIZATION
    ours = mark.is_file() and mark.read_bytes().startswith(MARK.encode())
    if not ours and folder.exists() and any(folder.iterdir()):
        raise NotWritable(
            folder, f"it is not empty, and it has no {KUSTOMIZATION} that this command wrote"
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


def _image(name: str, reference: str) -> dict[str, str]:
    match = IMAGE.fullmatch(reference)
    if not match:
        raise NotDeployable(
            f"{reference!r} is not the name of an image. Write NAME:TAG or NAME@sha256:DIGEST, "
            "such as registry.example/shipway:1.0."
        )
    return {"name": name} | {key: part for key, part in match.groupdict().items() if part}


def _yaml(content: Mapping[str, object]) -> str:
    return yaml.safe_dump(content, sort_keys=False)
