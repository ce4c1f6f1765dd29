"""Archives that somebody with bad intentions, or a bad network, might hand over.

Each case makes the bytes of a `.mar` from the files of an honest one.
"""

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.hostile import payloads
from tests.hostile.zips import Member, zipped

Files = dict[str, bytes]
CASES: dict[str, Callable[[Files], bytes]] = {}
PROGRAM = "artifact/programs/onnx_fp32.onnx"


def case(make: Callable[[Files], bytes]) -> Callable[[Files], bytes]:
    CASES[make.__name__] = make
    return make


def members(files: Files) -> list[Member]:
    return [Member(name.encode(), data) for name, data in sorted(files.items())]


def sealed(files: Files) -> Files:
    """The same files with digests of themselves, as their maker would have sealed them."""
    others = {name: data for name, data in files.items() if name != "SHA256SUMS"}
    lines = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in others.items()
    )
    return others | {"SHA256SUMS": lines.encode("utf-8", "surrogateescape")}


def with_file(name: str, content: Callable[[], bytes]) -> Callable[[Files], bytes]:
    """One more file, sealed like the others."""
    return lambda files: zipped(members(sealed(files | {name: content()})))


def without(name: str) -> Callable[[Files], bytes]:
    return lambda files: zipped(members(sealed({k: v for k, v in files.items() if k != name})))


def with_manifest(**changes: Any) -> Callable[[Files], bytes]:
    """MAR-INF/MANIFEST.json with other things said of the model, sealed."""

    def make(files: Files) -> bytes:
        manifest = json.loads(files["MAR-INF/MANIFEST.json"])
        manifest["model"] |= changes
        return with_file("MAR-INF/MANIFEST.json", json.dumps(manifest).encode)(files)

    return make


def with_settings(text: str) -> Callable[[Files], bytes]:
    return with_file("model-config.yaml", text.encode)


def with_member(member: Member) -> Callable[[Files], bytes]:
    """One more member, that nobody sealed."""
    return lambda files: zipped([*members(files), member])


def with_program(**changes: Any) -> Callable[[Files], bytes]:
    """The program's member with another truth, or lies in its headers."""

    def make(files: Files) -> bytes:
        return zipped(
            [
                replace(each, **changes) if each.name == PROGRAM.encode() else each
                for each in members(files)
            ]
        )

    return make


CASES |= {
    "nothing": lambda files: b"",
    "no_zip": lambda files: b"\x7fELF" + bytes(100),
    "the_end_of_a_zip_alone": lambda files: b"PK\5\6" + bytes(18),
    "cut_short": lambda files: zipped(members(files))[:-30],
    "the_first_half": lambda files: zipped(members(files))[:5000],
    "another_zip_before_it": lambda files: zipped(
        [Member(b"entry.py", payloads.PYTHON.encode())]
    ) + zipped(members(files)),
    "another_member_before_it": lambda files: zipped(
        members(files), before=zipped([Member(b"entry.py", payloads.PYTHON.encode())])[:-90]
    ),
    "something_before_it": lambda files: zipped(members(files), before=b"#!/bin/sh\n"),
    "something_behind_it": lambda files: zipped(members(files), after=b"evil"),
    "a_comment": lambda files: zipped(members(files), comment=b"evil"),
    "something_between": with_program(after=b"evil"),
    "a_member_that_the_directory_hides": with_program(
        after=zipped([Member(b"torch.py", payloads.PYTHON.encode())])[:-76]
    ),
    "another_name_in_the_header": with_program(local={"name": b"sitecustomize.py"}),
    "a_name_that_goes_up_in_the_header": with_program(local={"name": b"../evil"}),
    "another_size_in_the_header": with_program(local={"size": 1}),
    "another_digest_in_the_header": with_program(local={"crc": 1}),
    "sizes_behind_the_member": with_program(
        flags=8, local={"crc": 0, "packed": 0, "size": 0}, after=bytes(16)
    ),
    "a_name_of_another_kind_in_the_extra": with_program(
        local={"extra": b"up\x09\x00\x01\x00\x00\x00\x00evil"}
    ),
    "a_smaller_size": with_program(central={"size": 1}, local={"size": 1}),
    "a_larger_size": with_program(central={"size": 2**29}, local={"size": 2**29}),
    "an_enormous_size": with_program(central={"size": 2**32 - 2}, local={"size": 2**32 - 2}),
    "stored_with_two_sizes": with_program(
        method=0, local={"packed": 1}, central={"packed": 1}
    ),
    "a_wrong_checksum": with_program(central={"crc": 1}, local={"crc": 1}),
    "encrypted": with_program(flags=1),
    "an_unknown_compression": with_program(central={"method": 99}, local={"method": 99}),
    "a_place_beyond_the_end": with_program(central={"offset": 2**31}),
    "overlapping_members": with_program(central={"offset": 0}),
    "a_bomb": with_file("artifact/files/zeros", lambda: bytes(2**26)),
    "ten_thousand_files": lambda files: zipped(
        [*members(files), *(Member(b"artifact/files/%d" % each, b"x") for each in range(10_000))]
    ),
    "an_absolute_name": with_file("/etc/cron.d/evil", lambda: b"x"),
    "a_name_that_goes_up": with_file("artifact/../../evil", lambda: b"x"),
    "a_name_that_goes_up_by_two_dots_alone": with_file("artifact/files/..", lambda: b"x"),
    "a_backslash": with_file("artifact\\..\\..\\evil", lambda: b"x"),
    "a_drive": with_file("C:/evil", lambda: b"x"),
    "a_nul_in_a_name": with_member(Member(b"entry.py\0.txt", payloads.PYTHON.encode())),
    "a_terminal_escape_in_a_name": with_file("\x1b[2Jevil", lambda: b"x"),
    "a_name_of_5000_letters": with_file("artifact/files/" + "a" * 5000 + "/x", lambda: b"x"),
    "a_name_that_is_no_text": with_member(Member(b"\xff\xfe", b"x")),
    "an_accent_in_two_ways": lambda files: zipped(
        members(sealed(files | {"artifact/files/é": b"1", "artifact/files/e\u0301": b"2"}))
    ),
    "the_same_name_twice": with_member(Member(b"entry.py", payloads.PYTHON.encode())),
    "the_same_name_in_two_cases": lambda files: zipped(
        members(sealed(files | {"artifact/files/a": b"1", "artifact/files/A": b"2"}))
    ),
    "a_folder": with_member(Member(b"shipway/evil/")),
    "a_link": with_program(data=b"/etc/passwd", mode=0o120777),
    "a_device": with_program(data=b"", mode=0o060666),
    "a_pipe": with_program(data=b"", mode=0o010666),
    "a_library": with_file("evil.so", payloads.native),
    "a_library_in_place_of_a_module": with_file(
        "shipway/errors.cpython-311-x86_64-linux-gnu.so", payloads.native
    ),
    "a_library_beside_the_programs": with_file("artifact/programs/evil.so", payloads.native),
    "a_torch_of_its_own": with_file("torch.py", payloads.PYTHON.encode),
    "a_sitecustomize": with_file("sitecustomize.py", payloads.PYTHON.encode),
    "a_path_file": with_file("evil.pth", lambda: b"import os; os._exit(1)\n"),
    "bytecode": with_file("shipway/__pycache__/errors.cpython-311.pyc", payloads.bytecode),
    "a_requirements_file": with_file("requirements.txt", lambda: b"evil\n"),
    "a_pickle": with_file("artifact/weights.pkl", payloads.pickled),
    "another_handler": with_manifest(handler="shipway/evil.py"),
    "a_handler_outside": with_manifest(handler="/tmp/evil.py"),
    "a_handler_that_is_a_function": with_manifest(handler="os:system"),
    "requirements_to_install": with_manifest(requirementsFile="shipway/serving/service.py"),
    "a_model_file": with_manifest(modelFile="entry.py", serializedFile=PROGRAM),
    "settings_outside": with_manifest(configFile="/etc/passwd"),
    "a_name_that_is_not_its_artifacts": with_manifest(modelName="other"),
    "a_model_that_is_no_object": with_file("MAR-INF/MANIFEST.json", lambda: b'{"model": 1}'),
    "a_manifest_that_is_no_json": with_file("MAR-INF/MANIFEST.json", lambda: b"{"),
    "a_manifest_that_nests_for_ever": with_file(
        "MAR-INF/MANIFEST.json", lambda: b"[" * 200_000 + bytes(range(200)) * 10
    ),
    "another_runtime": lambda files: with_file(
        "MAR-INF/MANIFEST.json",
        lambda: files["MAR-INF/MANIFEST.json"].replace(b'"python"', b'"LSP"'),
    )(files),
    "an_object_in_the_settings": with_settings("!!python/object/apply:os.system ['true']\n"),
    "a_java_object_in_the_settings": with_settings("!!javax.script.ScriptEngineManager []\n"),
    "aliases_of_aliases_in_the_settings": with_settings("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n"),
    "an_environment_of_its_own_in_the_settings": with_settings("batchSize: 1\nuseVenv: true\n"),
    "a_launcher_in_the_settings": with_settings("batchSize: 1\ntorchrun:\n  nproc-per-node: 9\n"),
    "ten_thousand_workers_in_the_settings": with_settings("minWorkers: 10000\n"),
    "without_entry": lambda files: zipped(members({k: v for k, v in files.items()
                                                   if k != "entry.py"})),
    "without_sums": lambda files: zipped(members({k: v for k, v in files.items()
                                                  if k != "SHA256SUMS"})),
    "without_the_artifacts_sums": without("artifact/SHA256SUMS"),
    "without_a_manifest": without("artifact/manifest.json"),
    "without_torchserves_manifest": without("MAR-INF/MANIFEST.json"),
    "without_settings": without("model-config.yaml"),
    "without_a_program": without(PROGRAM),
    "other_sums_inside": with_file("artifact/SHA256SUMS", lambda: b""),
}  # fmt: skip


def changed(name: str) -> Callable[[Files], bytes]:
    """A file with one byte more, its digest as before."""
    return lambda files: zipped(members(files | {name: files[name] + b" "}))


CASES |= {
    "a_changed_entry": changed("entry.py"),
    "a_changed_program": changed(PROGRAM),
    "a_changed_manifest_of_torchserve": changed("MAR-INF/MANIFEST.json"),
    "sums_that_go_up": lambda files: zipped(
        members(files | {"SHA256SUMS": files["SHA256SUMS"] + b"0" * 64 + b"  ../evil\n"})
    ),
    "sums_that_are_no_text": lambda files: zipped(members(files | {"SHA256SUMS": b"\xff" * 80})),
}


def with_stream(files: Files, packed: bytes) -> bytes:
    """The program as a deflated stream of these bytes, under headers of an honest one."""
    data = files[PROGRAM]
    lies = {"method": zlib.DEFLATED, "size": len(data), "crc": zlib.crc32(data)}
    return with_program(data=packed, method=0, local=lies, central=lies)(files)


@case
def a_stream_without_an_end(files: Files) -> bytes:
    """Whoever reads until the stream ends reads the next members too."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = deflate.compress(files[PROGRAM]) + deflate.flush(zlib.Z_FULL_FLUSH)
    return with_stream(files, packed)


@case
def a_stream_that_goes_on(files: Files) -> bytes:
    """It holds more than the header says."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    return with_stream(files, deflate.compress(files[PROGRAM] + b"more") + deflate.flush())


@case
def a_stream_that_ends_early(files: Files) -> bytes:
    """Behind its end lies something that no reader of the directory sees."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    return with_stream(files, deflate.compress(files[PROGRAM]) + deflate.flush() + b"PK\3\4")


@case
def a_bomb_in_one_member_that_lies(files: Files) -> bytes:
    """A quarter of a gigabyte of zeros that says it is the program."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed = b"".join(deflate.compress(bytes(2**20)) for _ in range(256)) + deflate.flush()
    truth = len(files[PROGRAM])
    lies = {"method": zlib.DEFLATED, "size": truth, "crc": zlib.crc32(files[PROGRAM])}
    return with_program(data=packed, method=0, local=lies, central=lies)(files)
