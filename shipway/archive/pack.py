"""An artifact to a self-contained `.mar`. `shipway.archive.layout` says what it holds."""

import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import yaml
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_packaging_utils import ModelExportUtils

import shipway
from shipway.archive.code import serving_code
from shipway.archive.errors import ArchiveError
from shipway.archive.layout import (
    ENTRY,
    HANDLER,
    RESPONSE_TIMEOUT_S,
    STARTUP_TIMEOUT_S,
    TORCHSERVE_MANIFEST,
    TORCHSERVE_SETTINGS,
)
from shipway.artifact.bundle import CERTIFICATE, MANIFEST, PLUGINS, Artifact, write_record
from shipway.artifact.digests import sha256_of, write_sums
from shipway.artifact.manifest import Manifest
from shipway.artifact.samples import FOLDER
from shipway.files import shipped
from shipway.runtime.backends import BACKENDS
from shipway.tasks import TASKS

GENERIC = "generic"
"""The handler of tasks that have no handler file of their own."""
_CREATED = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip file can hold: the same content gives the same bytes."""


def pack(artifact: Artifact, model_store: Path, *, project: Path | None = None) -> Path:
    """Writes NAME-VERSION.mar into `model_store`, whole or not at all, and returns its path.

    `project` is the folder whose handlers/TASK.py is preferred to Shipway's, by default the
    current one. The same artifact and code give the same bytes. Raises ArchiveError if a file of
    that name with other content is there, and UnknownName for a task or a runtime that neither
    Shipway nor a plugin of the artifact registers.
    """
    manifest = artifact.manifest
    _check_names(manifest)
    destination = model_store / f"{manifest.name}-{manifest.version}.mar"
    model_store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=model_store, prefix=".packing-") as temporary:
        folder = Path(temporary) / "content"
        _stage(artifact, folder, handler_file(manifest.task, project))
        packed = Path(temporary) / destination.name
        zip_folder(folder, packed)
        if destination.exists():
            if sha256_of(destination) == sha256_of(packed):
                return destination
            raise ArchiveError(
                f"{destination} already exists with different content, and archives are immutable. "
                "Export the model under another version (--version 2.0), or remove the old "
                "archive first."
            )
        packed.replace(destination)
    return destination


def handler_file(task: str, project: Path | None = None) -> Path:
    """The handler file for a task: handlers/TASK.py of the project's folder, by default the
    current one; otherwise Shipway's file for the task, or its generic one."""
    own = (project or Path.cwd()) / "handlers" / f"{task}.py"
    if own.is_file():
        return own
    builtin = shipped("handlers") / f"{task}.py"
    return builtin if builtin.is_file() else shipped("handlers") / f"{GENERIC}.py"


def zip_folder(folder: Path, destination: Path) -> None:
    """Zips every file in `folder`, in the one form that `inspect_mar` accepts.

    Nothing is compressed: weights would shrink by a tenth at most, and each check, and
    TorchServe's unpacking beside requests, would take twice as long.
    """
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _CREATED)
                member.external_attr = 0o644 << 16
                archive.writestr(member, path.read_bytes())


def _check_names(manifest: Manifest) -> None:
    """Raises UnknownName for what no worker could serve. A plugin may register any name; its code
    is not run here."""
    if manifest.plugins:
        return
    TASKS.check(manifest.task)
    for name in (manifest.chosen, manifest.fallback):
        BACKENDS.check(manifest.programs[name].runtime)


def _stage(artifact: Artifact, folder: Path, handler: Path) -> None:
    """Writes the archive's files into `folder`."""
    manifest = artifact.manifest
    names = dict.fromkeys((manifest.chosen, manifest.fallback))
    kept = manifest.model_copy(
        update={"programs": {name: manifest.programs[name] for name in names}}
    )
    inside = folder / "artifact"
    (inside / "programs").mkdir(parents=True)
    for name, program in kept.programs.items():
        shutil.copyfile(artifact.program_path(name), inside / program.file)
    for name in ("files", FOLDER, PLUGINS):
        if (artifact.path / name).is_dir():
            shutil.copytree(
                artifact.path / name,
                inside / name,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
    write_record(inside / MANIFEST, kept)
    write_record(inside / CERTIFICATE, artifact.certificate)
    write_sums(inside)
    _copy_code(folder / "shipway", handler, *sorted((inside / PLUGINS).glob("*.py")))
    shutil.copyfile(Path(__file__).with_name(ENTRY), folder / ENTRY)
    shutil.copyfile(handler, folder / HANDLER)
    (folder / TORCHSERVE_SETTINGS).write_text(_model_config(kept))
    _write_torchserve_manifest(kept, folder)
    write_sums(folder)


def _copy_code(destination: Path, *others: Path) -> None:
    package = Path(shipway.__path__[0])
    for path in serving_code(package, *others):
        copy = destination / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / path, copy)


def _model_config(manifest: Manifest) -> str:
    # The defaults of a registration with curl: its query string wins. A delay below 1 ms can be
    # given only there.
    return yaml.safe_dump(
        {
            "batchSize": manifest.serving.batch_size,
            "maxBatchDelay": max(1, manifest.serving.max_batch_delay_ms),
            "responseTimeout": RESPONSE_TIMEOUT_S,
            "startupTimeout": STARTUP_TIMEOUT_S,
        },
        sort_keys=False,
    )


def _write_torchserve_manifest(manifest: Manifest, folder: Path) -> None:
    config = ModelArchiverConfig(
        model_name=manifest.name,
        handler=ENTRY,
        version=manifest.version,
        config_file=TORCHSERVE_SETTINGS,
        export_path=str(folder),
    )
    content = json.loads(ModelExportUtils.generate_manifest_json(config))
    content["createdOn"] = manifest.created  # not the time of packing: the same bytes each time
    path = folder / TORCHSERVE_MANIFEST
    path.parent.mkdir()
    path.write_text(json.dumps(content, indent=1) + "\n")
