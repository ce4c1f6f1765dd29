import pytest

from shipway.archive.errors import ArchiveError
from shipway.archive.samples import read_samples
from shipway.artifact.samples import allowed_error, error_of
from shipway.runtime.program import open_program
from tests.archive.changed import rewritten


def test_a_mar_carries_the_samples_and_what_its_certificate_allows(mar, tiny_artifact):
    samples = read_samples(mar)
    manifest, certificate = tiny_artifact.manifest, tiny_artifact.certificate
    (inputs,) = samples.inputs.values()
    program = open_program(tiny_artifact, manifest.chosen, threads=1)
    (measure,) = certificate.outputs
    off_by = error_of(samples.outputs[measure.name], program.run([inputs])[0], measure)
    tolerance = certificate.candidates[manifest.chosen].tolerance
    assert samples.tolerances[manifest.chosen] == tolerance
    assert samples.measures == {measure.name: measure}
    assert off_by <= allowed_error(measure, tolerance)


def test_an_archive_without_samples_has_none(mar, tmp_path):
    changed = rewritten(
        mar, tmp_path / "old.mar", lambda name, data: None if "/samples/" in name else data
    )
    assert read_samples(changed) is None


def test_samples_that_lack_an_output_are_told(mar, tmp_path):
    changed = rewritten(
        mar, tmp_path / "c.mar", lambda name, data: None if name.endswith("logits.npy") else data
    )
    with pytest.raises(ArchiveError, match=r"c\.mar contains invalid samples.*logits"):
        read_samples(changed)
