"""Who packaged a `.mar`: signatures with elliptic-curve keys, by the package `model-signing`.

A signature is a file of its own beside the archive, NAME-VERSION.mar.sig, in the format of the
OpenSSF's model signing: `model_signing verify key` checks it without this project.
"""

from collections.abc import Sequence
from pathlib import Path

from shipway.archive.errors import ArchiveError
from shipway.extras import install_command


class SignatureError(ArchiveError):
    """An archive whose signature is missing or wrong, or a key that cannot sign or verify."""


def signature_of(mar: Path) -> Path:
    """Where the signature of `mar` lies, if it has one."""
    return mar.with_name(f"{mar.name}.sig")


def sign(mar: Path, private_key: Path) -> Path:
    """Writes the signature of `mar` beside it. Raises SignatureError, naming the key."""
    signing, _ = _model_signing()
    path = signature_of(mar)
    partial = path.with_name(f".{path.name}.partial")
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
        signer.sign(mar, partial)
        partial.replace(path)
    except (OSError, ValueError, TypeError) as error:  # TypeError: the key has a password
        raise SignatureError(
            f"Cannot sign with {private_key}: {error}. Use an unencrypted EC private key in PEM "
            "format. Create one with "
            "`openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem`."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def check_signature(mar: Path, trusted_keys: Sequence[Path], *, required: bool) -> str | None:
    """A warning about the signature of `mar`, or None if a trusted key made it, or if it is
    neither present nor required.

    Raises SignatureError if a signature is required and no trusted key made one.
    """
    path = signature_of(mar)
    if not path.is_file():
        if required:
            raise SignatureError(
                f"{mar} has no signature ({path.name} is missing), and the configuration requires "
                "one. Sign the archive with `shipway package ARTIFACT --sign KEY.pem`."
            )
        return None
    if not required and not trusted_keys:
        return f"{path.name} was not checked, because trusted_keys is not set in the configuration."
    reasons = [reason for key in trusted_keys if (reason := _why_not(mar, path, key))]
    if len(reasons) < len(trusted_keys):
        return None
    fault = f"{path} is not a valid signature of {mar.name} by a trusted key: {'; '.join(reasons)}."
    if required:
        raise SignatureError(
            f"{fault} Sign the archive with a key whose public key is listed in trusted_keys."
        )
    return fault


def _why_not(mar: Path, signature: Path, key: Path) -> str | None:
    """Why the public key `key` does not verify the signature of `mar`; None if it does."""
    _, verifying = _model_signing()
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(mar, signature)
    except Exception as error:  # many kinds: the file may contain anything
        return f"{key.name}: {type(error).__name__} {str(error)[:200]}".strip()
    return None


def _model_signing():  # type: ignore[no-untyped-def]
    try:
        # model-signing is an extra, and takes a second to import
        from model_signing import signing, verifying
    except ImportError as error:
        raise SignatureError(
            f'Signing needs the extra "signing". Install it with `{install_command("signing")}`.'
        ) from error
    return signing, verifying
