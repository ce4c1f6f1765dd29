"""The certificates that TorchServe can serve with."""

import ssl
from pathlib import Path

from shipway.engines.errors import ConfigError
from shipway.tls import first_certificate

RSA = bytes.fromhex("2a864886f70d010101")
"""In a certificate: its key is one of RSA (RFC 8017, the object identifier rsaEncryption)."""


def check(certificate: Path, key: Path) -> None:
    """Raises ConfigError for a pair that TorchServe cannot serve with."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(
            f"{certificate} and {key} are not a valid certificate and its private key: {error}. "
            "Give two PEM files, and a key without a password."
        ) from error
    if RSA not in ssl.PEM_cert_to_DER_cert(first_certificate(str(certificate))):
        raise ConfigError(
            f"The key of {certificate} is not an RSA key, and TorchServe supports only RSA. "
            "Create one with `openssl req -newkey rsa:3072 …`."
        )
