"""What must hold for any input at all, with inputs that Hypothesis makes up."""

import io
import json
import re
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="the extra `dev` is not installed")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shipway.archive.errors import ArchiveError
from shipway.archive.inspect import inspect_mar
from shipway.artifact.bundle import MANIFEST, open_artifact
from shipway.artifact.digests import SUMS, format_sums, parse_sums, write_sums
from shipway.artifact.errors import ArtifactError
from shipway.errors import ShipwayError
from shipway.payloads.errors import BadImage, ImageTooLarge, NotAnImage
from shipway.payloads.images import decode_image
from shipway.payloads.request import HEADER_LENGTH, Request
from shipway.recipe import Axis, TensorSpec
from shipway.runtime.model import Model
from shipway.runtime.planning import Costs, plan
from shipway.serving import oip
from tests.fuzz import images, minimal
from tests.hostile import archives
from tests.hostile.zips import Member, unpacked_by_headers, zipped

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


# The artifact and the archive --------------------------------------------------------------------


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    return minimal.tensors(tmp_path_factory.mktemp("tensors") / "artifact")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return minimal.texts(tmp_path_factory.mktemp("texts") / "artifact")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return minimal.archive(tmp_path_factory.mktemp("archive"))


def paths_in(value: object, here: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Where something is in a JSON value."""
    items: list[tuple[object, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [here, *(each for key, inner in items for each in paths_in(inner, (*here, key)))]


@QUICK
@given(data=st.data(), other=JSON)
def test_a_manifest_with_anything_anywhere_is_a_manifest_or_refused(
    tensors, tmp_path_factory, data, other
):
    folder = tmp_path_factory.mktemp("artifact")
    shutil.copytree(tensors.path, folder, dirs_exist_ok=True)
    manifest = json.loads((folder / MANIFEST).read_text())
    path = data.draw(st.sampled_from(paths_in(manifest)[1:]))
    holder = manifest
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = other
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / SUMS).unlink()
    write_sums(folder)
    try:
        opened = open_artifact(folder)
    except ArtifactError:
        return
    assert opened.program_path(opened.manifest.chosen).is_relative_to(folder)


@QUICK
@given(st.dictionaries(st.from_regex(r"[!-~]{1,20}", fullmatch=True), st.just("0" * 64)))
def test_what_is_read_of_sums_is_what_was_written_and_lies_inside(digests):
    try:
        found = parse_sums(format_sums(digests).encode(), Path(SUMS))
    except ArtifactError:
        return
    assert found == digests
    assert all(Path("/a", name).resolve().is_relative_to("/a") for name in found)


LIES = st.dictionaries(
    st.sampled_from(["crc", "packed", "size", "flags", "method", "offset"]),
    st.integers(0, 2**16 - 1),
) | st.fixed_dictionaries(
    {}, optional={"name": st.binary(max_size=9), "extra": st.binary(max_size=9)}
)
MORE = st.lists(
    st.builds(
        Member,
        st.sampled_from([b"entry.py", b"evil", b"shipway/x.py"]) | st.binary(max_size=9),
        st.binary(max_size=20),
        method=st.sampled_from([0, 8]),
        local=LIES,
        central=LIES,
        after=st.binary(max_size=4),
    ),
    max_size=2,
)


@QUICK
@given(data=st.data(), more=MORE, local=LIES, central=LIES, before=st.binary(max_size=4))
def test_an_archive_is_refused_or_the_same_to_every_reader(
    files, tmp_path_factory, data, more, local, central, before
):
    members = archives.members(files)
    liar = data.draw(st.sampled_from(members))
    liar.local, liar.central = local, central
    members = data.draw(st.permutations([*members, *more]))
    content = zipped(members, before=before)
    path = tmp_path_factory.mktemp("archive") / "x.mar"
    path.write_bytes(content)
    try:
        inspect_mar(path)
    except ArchiveError:
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        by_directory = {name: archive.read(name) for name in archive.namelist()}
    assert unpacked_by_headers(content) == by_directory == files


@QUICK
@given(at=st.integers(0, 10**6), size=st.integers(0, 40), put=st.binary(max_size=40))
def test_an_archive_with_bytes_replaced_anywhere_is_refused(files, tmp_path_factory, at, size, put):
    whole = zipped(archives.members(files))
    at %= len(whole)
    content = whole[:at] + put + whole[at + size :]
    if content == whole:
        return
    path = tmp_path_factory.mktemp("archive") / "x.mar"
    path.write_bytes(content)
    try:
        inspect_mar(path)
    except ArchiveError:
        return
    # In the directory alone lie dates, versions and modes that mean nothing to anybody.
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
    assert unpacked_by_headers(content) == files


# Tensors -----------------------------------------------------------------------------------------

DTYPES = st.sampled_from(sorted(oip.DATATYPE_OF))
SHAPES = st.lists(st.integers(1, 4), min_size=2, max_size=3).map(tuple)


def any_array(dtype: str, shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    finite: dict[str, Any] = {}
    if dtype.startswith("float"):
        finite = {"allow_nan": False, "allow_infinity": False}
    return arrays.arrays(dtype, shape, elements=arrays.from_dtype(np.dtype(dtype), **finite))


@QUICK
@given(data=st.data(), dtype=DTYPES, shape=SHAPES, binary=st.booleans())
def test_a_tensor_survives_being_written_and_read(data, dtype, shape, binary):
    array = data.draw(any_array(dtype, shape))
    spec = TensorSpec(name="x", dtype=dtype, shape=(Axis(name="batch", max=4), *shape[1:]))
    asked = oip.InferRequest(id="1", binary=None if binary else frozenset())
    body, headers = oip.write_reply("m", "1", asked, {"x": array}, {})
    length = headers.get("Inference-Header-Content-Length")
    header = json.loads(body[: int(length)] if length else body)
    request = json.dumps({"inputs": header["outputs"]}).encode()
    tail = body[int(length) :] if length else b""
    sent = Request({"body": request + tail}, {HEADER_LENGTH: str(len(request))})
    [back] = oip.parse_request(sent, request + tail, [spec], ("y",), "text").arrays
    assert back.dtype == array.dtype and np.array_equal(back, array)


@QUICK
@given(st.lists(st.binary(max_size=9), min_size=1, max_size=5))
def test_elements_of_a_bytes_tensor_survive_being_written_and_read(items):
    tail = b"".join(len(each).to_bytes(4, "little") + each for each in items)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(items)]}
    tensor["parameters"] = {"binary_data_size": len(tail)}
    header = json.dumps({"inputs": [tensor]}).encode()
    sent = Request({"body": header + tail}, {HEADER_LENGTH: str(len(header))})
    spec = TensorSpec(name="ids", dtype="int64", shape=(Axis(name="batch", max=4), 2))
    assert oip.parse_request(sent, header + tail, [spec], ("y",), "text").items == tuple(items)


@QUICK
@given(header=JSON, tail=st.binary(max_size=40), length=st.integers(-1, 60) | st.text(max_size=3))
def test_any_body_is_tensors_or_a_refusal(header, tail, length):
    body = json.dumps(header).encode() + tail
    spec = TensorSpec(name="x", dtype="int8", shape=(Axis(name="batch", max=4), 2))
    for value in (body, header, {"inputs": header}, {"inputs": [header]}):
        request = Request({"body": body}, {HEADER_LENGTH: str(length)})
        with suppress(ShipwayError):
            oip.parse_request(request, value, [spec], ("y",), "text")


# Batches -----------------------------------------------------------------------------------------


@QUICK
@given(
    lengths=st.lists(st.integers(1, 600), max_size=30),
    most=st.integers(1, 16),
    grid=st.dictionaries(
        st.tuples(st.sampled_from([1, 4, 16]), st.just(0)), st.floats(0.01, 1e4), max_size=3
    ),
)
def test_every_row_is_planned_once_with_room_for_all_of_it(lengths, most, grid):
    runs = plan(lengths, Costs(grid, sizes=range(1, most + 1)))
    assert sorted(row for run in runs for row in run.rows) == list(range(len(lengths)))
    for run in runs:
        assert len(run.rows) <= run.size <= most
        assert all(lengths[row] <= run.length for row in run.rows)


@QUICK
@given(data=st.data(), widths=st.lists(st.integers(1, 3), min_size=1, max_size=12))
def test_every_row_gets_its_own_outputs_whatever_it_rode_with(tensors, data, widths):
    rows = [
        (data.draw(arrays.arrays(np.float32, width, elements=st.floats(-9, 9, width=32))),)
        for width in widths
    ]
    for (row,), found in zip(rows, Model(tensors).run(rows), strict=True):
        assert np.array_equal(found.outputs[0], row + row)


@QUICK
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 1)), min_size=1, max_size=40),
        min_size=1,
        max_size=12,
    )
)
def test_no_text_sees_its_padding_or_its_neighbours(texts, rows):
    pairs = [np.array(row, np.int64).T for row in rows]
    results = Model(texts).run([(ids, mask) for ids, mask in pairs])
    assert [int(each.outputs[0][0]) for each in results] == [
        int((ids * mask).sum()) for ids, mask in pairs
    ]


# Images ------------------------------------------------------------------------------------------

EDITS = st.lists(
    st.tuples(
        st.sampled_from([images.flip, images.cut, images.zero, images.drop]),
        st.floats(0, 0.999),
        st.integers(1, 8),
    ),
    max_size=2,
)
REFUSED_BY_OUR_OWN_RULES = "at most 50 are|too small to crop|Adobe marker|16-bit PNG|fewer rows"


@settings(QUICK, max_examples=400)
@given(
    file=st.sampled_from(sorted(images.small_files().items())),
    edits=EDITS,
    checksums=st.booleans(),
    side=st.sampled_from([32, 8]),
)
def test_an_image_is_refused_exactly_when_a_full_load_of_it_raises(file, edits, checksums, side):
    name, data = file
    for edit, place, size in edits:
        data = edit(data, int(place * len(data)), size)
    if checksums and name.startswith("PNG"):
        data = images.with_right_checksums(data)
    spec = images.preprocessing(side)
    try:
        found = decode_image(data, spec)
    except (BadImage, NotAnImage, ImageTooLarge) as error:
        if not re.search(REFUSED_BY_OUR_OWN_RULES, str(error)):
            with pytest.raises(Exception):  # noqa: B017 — Pillow raises a dozen types
                images.loaded(data)
        return
    expected = images.plainly_preprocessed(images.loaded(data), spec)
    assert found.shape == expected.shape
    # Small pictures of damaged JPEGs differ, because coefficients out of range are clipped later
    # in a scaled decoding. Those of whole ones are compared in tests/payloads/test_images.py.
    if side == 32 or not name.startswith("JPEG"):
        assert np.abs(found.astype(int) - expected).mean() < 1
