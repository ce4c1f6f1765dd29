import subprocess
import sys

import pytest

from shipway.releases.models_file import ModelsFileError, read_models, write_models

DIGEST = "0" * 64
FILE = f"""
models:
  - {{name: cats, version: "1.10", archive: store/cats-1.10.mar, sha256: "{DIGEST}"}}
  - {{name: cats, version: "2.0", default: true, workers: 2, batch_size: 8, max_batch_delay_ms: 0}}
  - {{name: dogs, version: "1.0", artifact: /artifacts/dogs-1.0}}
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "models.yaml"


def test_a_file_reads_with_its_paths_from_where_it_lies(file):
    file.write_text(FILE)
    found = read_models(file)
    first, second, third = found.models
    assert first.archive == file.parent / "store/cats-1.10.mar" and first.sha256 == DIGEST
    assert (second.workers, second.batch_size, second.max_batch_delay_ms) == (2, 8, 0)
    assert str(third.artifact) == "/artifacts/dogs-1.0"
    assert found.names == ["cats", "dogs"]
    assert found.default_of("cats") is second
    assert found.default_of("dogs") is third, "alone, it need not say so"


def test_what_was_written_reads_back(file):
    file.write_text(FILE)
    found = read_models(file)
    write_models(file, found.models)
    assert read_models(file) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[{name: a, version: '1', wokers: 2}]",
            r"models\.0\.wokers.*The keys of a model are",
        ),
        ("[{name: a, version: '1', workers: 1, workers: 2}]", "'workers' is given twice"),
        ("[{name: a, version: 1.10}]", r"models\.0\.version.*in quotes"),
        ("[{name: a}]", r"models\.0\.version: Field required"),
        ("[{name: a, version: '1', workers: 0}]", r"models\.0\.workers.*greater than 0"),
        ("[{name: ../a, version: '1'}]", r"models\.0\.name"),
        (
            "[{name: a, version: '1', default: true}, {name: a, version: '2', default: true}]",
            "a has two defaults, 1 and 2",
        ),
        ("[{name: a, version: '1'}, {name: a, version: '2'}]", "no version of a has"),
        ("[{name: a, version: '1', default: false}]", "no version of a has"),
        ("[{name: a, version: '1'}, {name: a, version: '1'}]", "a 1 is listed twice"),
        ("!!python/object/apply:os.getpid []", "could not determine a constructor"),
        ("[", "cannot be read"),
        ("", "models: Input should be"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_the_place_and_the_reason(file, text, told):
    file.write_text(f"models: {text}")
    with pytest.raises(ModelsFileError, match=rf"models\.yaml[\s\S]*{told}"):
        read_models(file)


@pytest.mark.parametrize("text", ["", "- name: a", "models"])
def test_a_file_without_models_is_told_what_belongs_there(file, text):
    file.write_text(text)
    with pytest.raises(ModelsFileError, match="has no `models:` with a list of versions"):
        read_models(file)


def test_a_file_that_is_not_there_is_named(file):
    with pytest.raises(ModelsFileError, match=r"models\.yaml"):
        read_models(file)


def test_it_is_read_without_torch_and_without_a_server():
    code = (
        "import sys, shipway.releases.models_file;"
        "sys.exit(bool({'torch', 'ts', 'server', 'handlers', 'httpx'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
