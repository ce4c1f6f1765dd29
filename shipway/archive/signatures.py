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
            f"{private_key} cannot sign: {error}. An unencrypted EC key in PEM is needed: "
            "`openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem`."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def check_signature(mar: Path, trusted_keys: Sequence[Path], *, required: bool) -> str | None:
    """What there is to say of the signature of `mar`; None if it is by one of the trusted keys,
    or if there is none and none is required.

    Raises SignatureError if one is required and there is none that such a key made.
    """
    path = signature_of(mar)
    if not path.is_file():
        if required:
            raise SignatureError(
                f"{mar} is not signed, and the configuration requires it: there is no {path.name} "
                "beside it. `shipway package ARTIFACT --sign KEY.pem` makes one."
            )
        return None
    if not required and not trusted_keys:
        return f"{path.name} was not checked: the configuration names no trusted_keys."
    reasons = [reason for key in trusted_keys if (reason := _why_not(mar, path, key))]
    if len(reasons) < len(trusted_keys):
        return None
    said = f"{path} is no signature of {mar.name} by a trusted key: {'; '.join(reasons)}."
    if required:
        raise SignatureError(f"{said} Sign it with a key whose public half trusted_keys names.")
    return said


def _why_not(mar: Path, signature: Path, key: Path) -> str | None:
    """None if the private half of `key` signed `mar`."""
    _, verifying = _model_signing()
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(mar, signature)
    except Exception as error:  # of many kinds, for a file that may hold anything: none is a yes
        return f"{key.name} says {type(error).__name__} {str(error)[:200]}".strip()
    return None


def _model_signing():  # type: ignore[no-untyped-def]
    try:
        # model-signing is an extra, and takes a second to import
        from model_signing import signing, verifying
    except ImportError as error:
        raise SignatureError(
            f'Signing needs the extra "signing": {install_command("signing")}.'
        ) from error
    return signing, verifying
