"""report.html: whole, true to the certificate, and harmless whatever is written in it."""

import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from shipway.artifact.bundle import open_artifact, seal
from shipway.artifact.certificate import (
    Certificate,
    LayerSensitivity,
    Speedup,
)
from shipway.artifact.digests import SUMS
from shipway.artifact.manifest import Manifest
from shipway.export import verdicts as reasons
from shipway.export.report import REPORT, write_report
from shipway.export.verify import accuracy, compare, measure_of
from tests.pages import Page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"'\x07"
SVG = "{http://www.w3.org/2000/svg}"


def page_of(folder, manifest: Manifest, certificate: Certificate, **options) -> tuple[str, Page]:
    html = write_report(folder, manifest, certificate, **options).read_text()
    return html, Page(html)


def test_the_page_is_whole_and_its_links_lead_somewhere(tmp_path, eventful):
    html, page = page_of(tmp_path, *eventful)
    assert html.startswith("<!doctype html>")
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links and {link.removeprefix("#") for link in links} <= set(ids)


def test_it_loads_nothing_and_runs_nothing(tmp_path, eventful):
    html, page = page_of(tmp_path, *eventful)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "use", "image"}
    for tag, attributes in page.elements:
        assert not {"src", "srcset", "xlink:href", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        if tag != "a":
            assert "href" not in attributes
    assert "@import" not in html and "url(" not in html and "@font-face" not in html
    assert "default-src 'none'" in html


def test_every_candidate_and_every_reason_is_there(tmp_path, eventful):
    manifest, certificate = eventful
    _, page = page_of(tmp_path, manifest, certificate)
    for name, each in certificate.candidates.items():
        assert name in page.text
        if not each.passed:
            assert each.verdict.removeprefix("skipped: ") in page.text
            assert reasons.explain(each.verdict).advice in page.text
    assert manifest.chosen_because[1:] in page.text
    assert manifest.checkpoint_sha256 in page.text
    for inputs in (certificate.calibration, certificate.evaluation):
        assert inputs.sha256 in page.text and inputs.description in page.text


def shown_as_number(shown: str) -> float:
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    plain = shown.replace(",", "").replace("−", "-")
    mantissa, _, exponent = plain.partition(" × 10")
    factor = 10.0 ** int(exponent.translate(raised)) if exponent else 1.0
    return float(mantissa.rstrip("%")) * factor / (100 if shown.endswith("%") else 1)


def test_the_numbers_are_the_certificates(tmp_path, eventful):
    manifest, certificate = eventful
    _, page = page_of(tmp_path, manifest, certificate)
    exact = {value for value, _ in page.data}
    for each in certificate.candidates.values():
        assert each.bytes is None or each.bytes in exact
        for found in each.agreement:
            assert {
                found.relative_error,
                found.sqnr_db,
                found.cosine,
                found.top1_agreement,
                found.max_abs_diff,
                found.mean_abs_diff,
            } <= exact
        for shape in certificate.shapes:
            for latency in each.latency.get(shape, {}).values():
                assert {latency.median_ms, latency.low_ms, latency.high_ms} <= exact
    assert {each.relative_error for each in certificate.sensitivity} <= exact


def test_what_is_shown_is_the_number_rounded(tmp_path, eventful):
    _, page = page_of(tmp_path, *eventful)
    assert len(page.data) > 100
    for value, shown in page.data:
        if shown == "∞":
            assert value >= 900
            continue
        megabytes = shown_as_number(shown) * 1e6
        near = pytest.approx(shown_as_number(shown), rel=0.05, abs=0.0051)
        assert value == near or value == pytest.approx(megabytes, abs=0.051e6)


def test_the_drawings_are_well_formed_and_described(tmp_path, eventful):
    html, _ = page_of(tmp_path, *eventful, budget=5.0)
    drawings = [ET.fromstring(each) for each in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
    pictures = [each for each in drawings if each.get("role") == "img"]
    # Front, two shapes, two sweeps and the layers, each for wide and narrow pages.
    assert len(pictures) == 12
    for each in pictures:
        title, description = each.find(f"{SVG}title"), each.find(f"{SVG}desc")
        assert each.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert title.text and description.text


def test_hostile_words_do_nothing(tmp_path, eventful):
    manifest, certificate = eventful
    labels = (HOSTILE, *manifest.labels[1:])
    preprocessing = manifest.preprocessing.model_copy(update={"source": HOSTILE})
    manifest = manifest.model_copy(
        update={
            "labels": labels,
            "preprocessing": preprocessing,
            "chosen_because": HOSTILE,
            "packages": {HOSTILE: HOSTILE},
        }
    )
    layer = LayerSensitivity(layer=HOSTILE, operator=HOSTILE, relative_error=0.1, sqnr_db=20)
    slow = certificate.candidates["slow"]
    certificate = certificate.model_copy(
        update={
            "candidates": certificate.candidates
            | {HOSTILE: slow.model_copy(update={"verdict": HOSTILE, "runtime": HOSTILE})},
            "sensitivity": (layer,),
            "host": certificate.host.model_copy(update={"processor": HOSTILE}),
            "evaluation": certificate.evaluation.model_copy(update={"description": HOSTILE}),
        }
    )
    html, page = page_of(tmp_path, manifest, certificate)
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if "onerror" in name]
    assert page.text.count("<script>alert(1)</script>") > 10
    for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(drawing)


def test_the_same_records_give_the_same_page(tmp_path, eventful):
    first = write_report(tmp_path, *eventful).read_bytes()
    assert write_report(tmp_path, *eventful).read_bytes() == first


def test_an_artifact_holds_its_report_under_its_seal(tmp_path, tiny):
    staging = tmp_path / "staging"
    shutil.copytree(tiny.path, staging)
    (staging / SUMS).unlink()
    write_report(staging, tiny.manifest, tiny.certificate)
    seal(staging, tmp_path / "sealed")
    assert (open_artifact(tmp_path / "sealed").path / REPORT).exists()


def test_how_to_do_it_again_names_what_was_tried(tmp_path, tiny):
    _, page = page_of(tmp_path, tiny.manifest, tiny.certificate, budget=2.5)
    command = next(line for line in page.text.splitlines() if line.startswith("shipway export "))
    assert "YOUR_RECIPE.py --version 1.0 --objective latency --accuracy-budget 2.5" in command
    for name in tiny.certificate.candidates:
        assert f"--only {name}" in command


def test_a_machine_that_was_not_quiet_is_told_of_before_anything_else(tmp_path, tiny):
    over = Speedup(value=5.0, low=4.4, high=5.9, turns=8, basis="processor time")
    noisy = {"basis": "processor time", "quiet_runs": 1, "speedup": over}

    def disturbed(table):
        return {
            shape: {threads: one.model_copy(update=noisy) for threads, one in by_threads.items()}
            for shape, by_threads in table.items()
        }

    candidates = {
        name: each.model_copy(update={"latency": disturbed(each.latency)})
        for name, each in tiny.certificate.candidates.items()
    }
    eager = disturbed(tiny.certificate.eager)
    certificate = tiny.certificate.model_copy(update={"candidates": candidates, "eager": eager})
    _, page = page_of(tmp_path, tiny.manifest, certificate)
    said = page.text.index("The machine was not quiet during the measurement")
    assert said < page.text.index("is the program to serve")
    assert "at least 4.4×" in page.text


def test_a_choice_made_again_has_no_eager_to_show(tmp_path, tiny):
    certificate = tiny.certificate.model_copy(update={"eager": {}})
    _, page = page_of(tmp_path, tiny.manifest, certificate)
    assert "× eager" not in page.text and "the reference" not in page.text


def test_embeddings_are_told_of_by_their_cosine(tmp_path, tiny):
    reference_NK = np.random.default_rng(0).normal(size=(8, 4))
    measure = measure_of("embedding", reference_NK, "embedding", "logits")
    agreement = compare(reference_NK, reference_NK + 0.01, 1, measure)
    candidates = {
        name: each.model_copy(update={"agreement": (agreement,)})
        for name, each in tiny.certificate.candidates.items()
    }
    certificate = tiny.certificate.model_copy(
        update={"candidates": candidates, "outputs": (measure,)}
    )
    manifest = tiny.manifest.model_copy(update={"task": "text_embedding", "labels": ()})
    _, page = page_of(tmp_path, manifest, certificate)
    assert "Similarity change" in page.text and "Top-1" not in page.text
    assert {agreement.cosine, agreement.similarity_change} <= {value for value, _ in page.data}


def test_accuracy_comes_with_its_interval_where_classes_are_known(tmp_path, tiny):
    random_N = np.random.default_rng(0)
    targets_N = random_N.integers(0, 3, 60)
    eager_NK = np.eye(3)[targets_N]
    candidate_NK = eager_NK.copy()
    candidate_NK[:3] = candidate_NK[:3, ::-1]
    found = accuracy(eager_NK, candidate_NK, targets_N)
    candidates = {
        name: each.model_copy(update={"accuracy": found})
        for name, each in tiny.certificate.candidates.items()
    }
    certificate = tiny.certificate.model_copy(update={"candidates": candidates})
    _, page = page_of(tmp_path, tiny.manifest, certificate)
    exact = {value for value, _ in page.data}
    assert {found.candidate.low, found.candidate.high, found.eager.low, found.change} <= exact
