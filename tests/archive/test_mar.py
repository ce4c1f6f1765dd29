import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from shipway.archive.errors import ArchiveError
from shipway.archive.inspect import inspect_mar
from shipway.archive.pack import pack
from shipway.archive.samples import read_samples
from shipway.artifact.digests import sha256_of
from shipway.artifact.samples import relative_error
from shipway.runtime.program import open_program
from tests.hostile.archives import with_manifest


@pytest.fixture(scope="module")
def mar(tiny_artifact, tmp_path_factory) -> Path:
    return pack(tiny_artifact, tmp_path_factory.mktemp("store"))


def rewritten(mar: Path, destination: Path, change) -> Path:
    """A whole zip with one thing different: `change(name, data)` gives the new data or None."""
    with zipfile.ZipFile(mar) as old, zipfile.ZipFile(destination, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return destination


def test_a_mar_says_what_its_artifact_says(mar, tiny_artifact):
    info = inspect_mar(mar)
    manifest = tiny_artifact.manifest
    assert mar.name == "tiny-1.0.mar"
    assert (info.name, info.version) == (manifest.name, manifest.version)
    assert info.batch_size == manifest.serving.batch_size
    assert info.digest == sha256_of(mar)


def test_packing_again_gives_the_same_bytes(mar, tiny_artifact, tmp_path):
    assert pack(tiny_artifact, tmp_path).read_bytes() == mar.read_bytes()
    assert pack(tiny_artifact, tmp_path).read_bytes() == mar.read_bytes()


def test_a_mar_never_replaces_another(tiny_artifact, tmp_path):
    (tmp_path / "tiny-1.0.mar").write_bytes(b"another")
    with pytest.raises(ArchiveError, match="exists with other content"):
        pack(tiny_artifact, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny-1.0.mar"]


def test_only_the_chosen_and_the_portable_program_travel(mar, tiny_artifact):
    with zipfile.ZipFile(mar) as archive:
        programs = {name for name in archive.namelist() if "/programs/" in name}
    manifest = tiny_artifact.manifest
    assert programs == {
        f"artifact/{manifest.programs[name].file}" for name in (manifest.chosen, manifest.fallback)
    }


def test_the_code_in_a_mar_runs_where_this_project_is_not_installed(mar, tmp_path):
    with zipfile.ZipFile(mar) as archive:
        archive.extractall(tmp_path)
    script = (
        "import sys; sys.path.insert(0, '.'); import entry, shipway, handler; "
        "from types import SimpleNamespace as N; m = entry.Model(); "
        "m.initialize(N(system_properties={'model_dir': '.', 'batch_size': 2}, metrics=None)); "
        "print(shipway.__file__, handler.__file__, m.service.model.program_name)"
    )
    # -S leaves out the editable install's .pth file; the packages themselves are put back.
    site = next(path for path in sys.path if path.endswith("site-packages"))
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.append({site!r}); {script}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(tmp_path)) == 2


def test_a_mar_changed_after_packing_is_refused_when_it_is_loaded(mar, tmp_path):
    with zipfile.ZipFile(mar) as archive:
        archive.extractall(tmp_path)
    program = next((tmp_path / "artifact" / "programs").iterdir())
    program.write_bytes(program.read_bytes()[:-1] + b"\x00")
    done = subprocess.run(
        [sys.executable, "-c", "import entry"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert program.name in done.stderr
    assert "is not the file that was sealed" in done.stderr


def test_every_member_is_guarded_by_its_digest(mar, tmp_path):
    with zipfile.ZipFile(mar) as archive:
        names = archive.namelist()
    for victim in names:
        changed = rewritten(
            mar,
            tmp_path / "changed.mar",
            lambda name, data, victim=victim: data + b" " if name == victim else data,
        )
        with pytest.raises(ArchiveError, match=victim):
            inspect_mar(changed)


def test_a_missing_member_is_named(mar, tmp_path):
    changed = rewritten(
        mar, tmp_path / "c.mar", lambda name, data: None if name == "entry.py" else data
    )
    with pytest.raises(ArchiveError, match=r"lacks entry\.py"):
        inspect_mar(changed)


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil", "surprise.so"])
def test_a_member_that_should_not_be_there_is_refused(mar, tmp_path, name):
    changed = Path(shutil.copy(mar, tmp_path / "c.mar"))
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(ArchiveError, match="evil|surprise"):
        inspect_mar(changed)


def test_a_link_in_a_mar_is_refused(mar, tmp_path):
    changed = Path(shutil.copy(mar, tmp_path / "c.mar"))
    member = zipfile.ZipInfo("link")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(ArchiveError, match="link"):
        inspect_mar(changed)


def test_a_mar_served_under_another_name_than_its_artifact_is_refused(mar, tmp_path):
    with zipfile.ZipFile(mar) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    changed = tmp_path / "c.mar"
    changed.write_bytes(with_manifest(modelName="other")(files))
    with pytest.raises(ArchiveError, match="would be served as other 1.0"):
        inspect_mar(changed)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_mar_cut_short_is_refused(mar, tmp_path, kept):
    whole = mar.read_bytes()
    path = tmp_path / "cut.mar"
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ArchiveError, match=r"cut\.mar is no whole \.mar"):
        inspect_mar(path)


def test_bits_flipped_anywhere_in_a_mar_are_noticed(mar, tmp_path):
    whole = mar.read_bytes()
    path = tmp_path / "flipped.mar"
    with zipfile.ZipFile(mar) as archive:  # inside the data
        spots = [
            each.header_offset + 30 + len(each.filename) + each.compress_size // 2
            for each in archive.infolist()
            if each.file_size
        ]
    for spot in spots:
        path.write_bytes(whole[:spot] + bytes([whole[spot] ^ 0x10]) + whole[spot + 1 :])
        with pytest.raises(ArchiveError):
            inspect_mar(path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04"])
def test_what_is_no_mar_is_called_that(tmp_path, content):
    path = tmp_path / "x.mar"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"x\.mar is no whole"):
        inspect_mar(path)


def test_a_zip_of_something_else_is_called_that(tmp_path):
    path = tmp_path / "x.mar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ArchiveError, match="no archive of Shipway's"):
        inspect_mar(path)


def test_a_mar_that_is_not_there_is_called_that(tmp_path):
    with pytest.raises(ArchiveError, match="does not exist"):
        inspect_mar(tmp_path / "x.mar")


def test_a_mar_carries_the_samples_and_what_its_certificate_allows(mar, tiny_artifact):
    samples = read_samples(mar)
    manifest, certificate = tiny_artifact.manifest, tiny_artifact.certificate
    (inputs,) = samples.inputs.values()
    program = open_program(tiny_artifact, manifest.chosen, threads=1)
    off_by = relative_error(samples.outputs[manifest.outputs[0].name], program.run([inputs])[0])
    allowed = certificate.candidates[manifest.chosen].tolerance.relative_error
    assert samples.tolerances[manifest.chosen] == allowed
    assert off_by <= allowed


def test_an_archive_without_samples_has_none(mar, tmp_path):
    changed = rewritten(
        mar, tmp_path / "old.mar", lambda name, data: None if "/samples/" in name else data
    )
    assert read_samples(changed) is None


def test_samples_that_lack_an_output_are_told(mar, tmp_path):
    changed = rewritten(
        mar, tmp_path / "c.mar", lambda name, data: None if name.endswith("logits.npy") else data
    )
    with pytest.raises(ArchiveError, match=r"c\.mar has samples that do not read.*logits"):
        read_samples(changed)
