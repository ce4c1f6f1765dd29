import subprocess
import sys
import zipfile


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
    assert "has changed since the archive was packaged" in done.stderr
