"""Artifacts that somebody with bad intentions, or a bad disk, might hand over.

Each case damages a whole artifact in place. Where the damage alone would be found by its digest,
the folder is sealed anew: whoever can write a file can write its digest too.
"""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shipway.artifact.manifest import FORMAT
from tests.hostile import payloads

Damage = Callable[[Path], None]
CASES: dict[str, Damage] = {}
PROGRAM = "programs/onnx_fp32.onnx"
TEXT = {"kind": "text", "max_length": 8, "too_long": "refuse", "source": "nobody"}


def case(damage: Damage) -> Damage:
    CASES[damage.__name__] = damage
    return damage


def reseal(folder: Path) -> None:
    """Digests of whatever is there, under any name at all."""
    names = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not (path.parent == folder and path.name == "SHA256SUMS")
    ]
    seal(folder, {name: digest(folder / name) for name in names})


def seal(folder: Path, digests: dict[str, str]) -> None:
    lines = "".join(f"{value}  {name}\n" for name, value in digests.items())
    (folder / "SHA256SUMS").write_text(lines)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sums(folder: Path) -> dict[str, str]:
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    return {name: value for value, name in (line.split("  ") for line in lines)}


def add(folder: Path, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(exist_ok=True, parents=True)
    (folder / name).write_bytes(content)
    reseal(folder)


def edit(folder: Path, record: str = "manifest.json", **changes: Any) -> None:
    path = folder / record
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    reseal(folder)


def edit_program(folder: Path, **changes: Any) -> None:
    programs = json.loads((folder / "manifest.json").read_text())["programs"]
    programs["onnx_fp32"] |= changes
    edit(folder, programs=programs)


def manifest_of(folder: Path, text: bytes) -> None:
    (folder / "manifest.json").write_bytes(text)
    reseal(folder)


def remove(name: str, *, sealed_anew: bool = True) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        if sealed_anew:
            reseal(folder)

    return damage


def listing(line: str) -> Damage:
    """SHA256SUMS with one more line."""

    def damage(folder: Path) -> None:
        with (folder / "SHA256SUMS").open("a") as file:
            file.write(line)

    return damage


def edited(**changes: Any) -> Damage:
    return lambda folder: edit(folder, **changes)


def programmed(**changes: Any) -> Damage:
    return lambda folder: edit_program(folder, **changes)


def added(name: str, content: Callable[[], bytes]) -> Damage:
    return lambda folder: add(folder, name, content())


ZEROS = "0" * 64
CASES |= {
    "without_a_manifest": remove("manifest.json"),
    "without_a_certificate": remove("certificate.json"),
    "without_sums": remove("SHA256SUMS", sealed_anew=False),
    "without_a_sealed_program": remove(PROGRAM, sealed_anew=False),
    "without_a_program_that_the_manifest_names": remove(PROGRAM),
    "a_library_beside_the_programs": added("programs/evil.so", payloads.native),
    "a_library_among_the_files": added("lib/evil.so", payloads.native),
    "a_sitecustomize": added("sitecustomize.py", payloads.PYTHON.encode),
    "a_path_file": added("evil.pth", lambda: b"import os\n"),
    "sealed_bytecode": added("__pycache__/json.cpython-311.pyc", payloads.bytecode),
    "a_pickle_beside_the_programs": added("programs/weights.pkl", payloads.pickled),
    "sums_with_a_broken_line": listing("not a digest\n"),
    "sums_with_one_name_twice": listing(f"{ZEROS}  {PROGRAM}\n"),
    "sums_with_one_name_in_two_cases": listing(f"{ZEROS}  {PROGRAM.upper()}\n"),
    "sums_that_go_up": listing(f"{ZEROS}  programs/../../evil\n"),
    "sums_with_an_absolute_name": listing(f"{ZEROS}  /etc/passwd\n"),
    "sums_with_a_backslash": listing(f"{ZEROS}  programs\\evil\n"),
    "sums_with_a_terminal_escape": listing(f"{ZEROS}  \x1b[2Jevil\n"),
    "sums_with_an_empty_part": listing(f"{ZEROS}  programs//onnx_fp32.onnx\n"),
    "sums_of_a_file_that_is_not_there": listing(f"{ZEROS}  evil\n"),
    "sums_of_themselves": listing(f"{ZEROS}  SHA256SUMS\n"),
    "a_newer_format": edited(format=FORMAT + 1),
    "a_format_that_is_no_number": edited(format=[1]),
    "an_unknown_field": edited(surprise=1),
    "a_name_that_goes_up": edited(name="../evil"),
    "a_version_with_a_header_in_it": edited(version="1.0\r\nSet-Cookie: evil"),
    "a_chosen_program_that_is_not_there": edited(chosen="nothing"),
    "a_fallback_that_is_not_there": edited(fallback="nothing"),
    "labels_that_are_no_list": edited(labels={"0": "cat"}),
    "no_inputs": edited(inputs=[]),
    "an_input_without_axes": edited(inputs=[{"name": "x", "dtype": "uint8", "shape": []}]),
    "an_input_of_objects": edited(
        inputs=[{"name": "x", "dtype": "O", "shape": [{"name": "b", "max": 2}]}]
    ),
    "an_axis_beyond_all_memory": edited(
        inputs=[{"name": "x", "dtype": "uint8", "shape": [{"name": "b", "max": 10**30}]}]
    ),
    "a_tokenizer_that_goes_up": edited(preprocessing=TEXT | {"tokenizer": "files/../../evil"}),
    "a_tokenizer_that_is_a_folder": edited(preprocessing=TEXT | {"tokenizer": "files/.."}),
    "a_tokenizer_that_is_not_there": edited(preprocessing=TEXT | {"tokenizer": "files/t.json"}),
    "a_program_file_that_goes_up": programmed(file="programs/../../evil.onnx"),
    "a_program_file_that_is_a_folder": programmed(file="programs/.."),
    "a_program_file_that_is_absolute": programmed(file="/tmp/evil.onnx"),
    "a_program_with_a_digest_of_another_file": programmed(sha256=ZEROS),
    "a_certificate_of_other_programs": lambda folder: edit(
        folder, "certificate.json", candidates={}
    ),
    "a_manifest_that_is_no_json": lambda folder: manifest_of(folder, b"{"),
    "a_manifest_in_utf_16": lambda folder: manifest_of(folder, '{"format": 1}'.encode("utf-16")),
    "a_manifest_that_nests_for_ever": lambda folder: manifest_of(folder, b"[" * 200_000),
    "a_manifest_with_a_number_without_end": lambda folder: manifest_of(
        folder, b'{"format": 1' + b"0" * 5000 + b"}"
    ),
}


UNKNOWN: dict[str, Damage] = {
    "a_format_that_its_runtime_does_not_open": programmed(format="pickle"),
    "an_unknown_runtime": programmed(runtime="os.system"),
}
"""Names are open, since a plugin may register a runtime: refused when the program is opened."""


@case
def a_changed_program(folder: Path) -> None:
    content = bytearray((folder / PROGRAM).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / PROGRAM).write_bytes(content)


@case
def a_program_cut_short(folder: Path) -> None:
    (folder / PROGRAM).write_bytes((folder / PROGRAM).read_bytes()[:-1])


@case
def a_file_that_nobody_sealed(folder: Path) -> None:
    (folder / "programs" / "evil.so").write_bytes(payloads.native())


@case
def bytecode_that_nobody_sealed(folder: Path) -> None:
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "json.cpython-311.pyc").write_bytes(payloads.bytecode())


@case
def a_torchscript_swapped_for_a_pickle(folder: Path) -> None:
    (folder / "programs" / "torchscript.pt").write_bytes(payloads.torchscript())


@case
def an_exported_program_swapped_for_a_library(folder: Path) -> None:
    content = payloads.zip_of(**{"data__aotinductor__model__evil.so": payloads.native()})
    (folder / "programs" / "torch_export.pt2").write_bytes(content)


@case
def a_link_to_the_right_program(folder: Path) -> None:
    elsewhere = Path(shutil.move(folder / PROGRAM, folder.with_suffix(".elsewhere")))
    (folder / PROGRAM).symlink_to(elsewhere)


@case
def a_link_to_the_right_folder(folder: Path) -> None:
    elsewhere = Path(shutil.move(folder / "programs", folder.with_suffix(".elsewhere")))
    (folder / "programs").symlink_to(elsewhere)


@case
def a_link_to_nothing(folder: Path) -> None:
    (folder / "evil").symlink_to(folder / "nothing")


@case
def a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "evil")


@case
def a_pipe_for_a_program(folder: Path) -> None:
    (folder / PROGRAM).unlink()
    os.mkfifo(folder / PROGRAM)


@case
def a_socket(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("evil")
    finally:
        os.chdir(here)


@case
def a_folder_for_a_program(folder: Path) -> None:
    (folder / PROGRAM).unlink()
    (folder / PROGRAM).mkdir()


@case
def sums_that_are_no_text(folder: Path) -> None:
    (folder / "SHA256SUMS").write_bytes(b"\xff\xfe\x00")


@case
def sums_of_a_gigabyte(folder: Path) -> None:
    os.truncate(folder / "SHA256SUMS", 2**30)


@case
def a_mean_that_is_no_number(folder: Path) -> None:
    preprocessing = json.loads((folder / "manifest.json").read_text())["preprocessing"]
    edit(folder, preprocessing=preprocessing | {"mean": [float("nan")] * 3})


@case
def a_certificate_with_a_shape_that_is_none(folder: Path) -> None:
    candidates = json.loads((folder / "certificate.json").read_text())["candidates"]
    latency = candidates["onnx_fp32"]["latency"]
    candidates["onnx_fp32"]["latency"] = {"__import__": next(iter(latency.values()))}
    edit(folder, "certificate.json", candidates=candidates)
