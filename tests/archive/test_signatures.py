"""Signatures by a real key, made and checked with the package `model-signing`."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("model_signing", reason="the extra `signing` is not installed")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shipway.archive.signatures import SignatureError, check_signature, sign, signature_of


def key_pair(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    """The files of a private key and of its public half, as openssl writes them."""
    private = ec.generate_private_key(ec.SECP256R1())
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    (folder / f"{name}.pem").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
    )
    (folder / f"{name}.pub.pem").write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return folder / f"{name}.pem", folder / f"{name}.pub.pem"


@pytest.fixture
def mar(tmp_path) -> Path:
    path = tmp_path / "model-1.0.mar"
    path.write_bytes(b"an archive")
    return path


@pytest.fixture
def ours(tmp_path) -> tuple[Path, Path]:
    return key_pair(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path) -> tuple[Path, Path]:
    return key_pair(tmp_path, "theirs")


@pytest.mark.parametrize("required", [True, False])
def test_a_signature_by_any_trusted_key_counts(mar, ours, theirs, required):
    assert sign(mar, ours[0]) == signature_of(mar)
    assert check_signature(mar, [theirs[1], ours[1]], required=required) is None


def test_a_signature_counts_after_the_archive_was_copied_under_another_name(mar, ours, tmp_path):
    sign(mar, ours[0])
    copy = Path(shutil.copy(mar, tmp_path / "copy.mar"))
    shutil.copy(signature_of(mar), signature_of(copy))
    assert check_signature(copy, [ours[1]], required=True) is None


def test_an_archive_without_a_signature_is_refused_only_where_one_is_required(mar, ours):
    assert check_signature(mar, [ours[1]], required=False) is None
    with pytest.raises(SignatureError, match=r"has no signature.*model-1\.0\.mar\.sig is missing"):
        check_signature(mar, [ours[1]], required=True)


def test_a_signature_by_a_stranger_is_refused_or_told(mar, ours, theirs):
    sign(mar, theirs[0])
    with pytest.raises(
        SignatureError, match="not a valid signature of model-1.0.mar by a trusted key"
    ):
        check_signature(mar, [ours[1]], required=True)
    assert "by a trusted key" in str(check_signature(mar, [ours[1]], required=False))
    assert "trusted_keys is not set" in str(check_signature(mar, [], required=False))


def test_an_archive_that_changed_after_it_was_signed_is_refused(mar, ours):
    sign(mar, ours[0])
    mar.write_bytes(b"an Archive")
    with pytest.raises(SignatureError, match="Hash mismatch"):
        check_signature(mar, [ours[1]], required=True)


def test_a_signature_of_another_archive_is_refused(mar, ours, tmp_path):
    other = tmp_path / "other-1.0.mar"
    other.write_bytes(b"another archive")
    shutil.move(sign(other, ours[0]), signature_of(mar))
    with pytest.raises(SignatureError):
        check_signature(mar, [ours[1]], required=True)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 100_000, b"\xff" * 100, b'{"dsseEnvelope": {"signatures": []}}']
)
def test_what_is_no_signature_is_refused(mar, ours, content):
    signature_of(mar).write_bytes(content)
    with pytest.raises(SignatureError):
        check_signature(mar, [ours[1]], required=True)


def test_a_signature_with_its_payload_swapped_is_refused(mar, ours):
    """The payload names the archive's digest; its signature is then of other bytes."""
    import base64
    import json

    sign(mar, ours[0])
    bundle = json.loads(signature_of(mar).read_text())
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    payload["predicate"]["resources"][0]["digest"] = "0" * 64
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    signature_of(mar).write_text(json.dumps(bundle))
    with pytest.raises(SignatureError):
        check_signature(mar, [ours[1]], required=True)


def test_a_key_that_cannot_sign_is_named_and_nothing_is_left(mar, tmp_path):
    locked, public = key_pair(tmp_path, "locked", b"a password")
    (tmp_path / "no.pem").write_text("no key")
    before = sorted(tmp_path.iterdir())
    for key in (locked, public, tmp_path / "no.pem", tmp_path / "missing.pem"):
        with pytest.raises(SignatureError, match=key.name):
            sign(mar, key)
    assert sorted(tmp_path.iterdir()) == before
