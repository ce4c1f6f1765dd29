"""TLS as this project's clients speak it with the server on their own machine."""

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc

END = "-----END CERTIFICATE-----"


def trust(certificate: str | None) -> ssl.SSLContext:
    """Trusts the one who has the key of the first certificate in this PEM file; without a file,
    nobody.

    The names in it are no matter, as few certificates name the loopback address: nobody else can
    speak for this one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if certificate is not None:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whoever signed it
        context.load_verify_locations(cadata=first_certificate(certificate))
    return context


def channel(
    address: str, certificate: str | None, options: Sequence[tuple[str, Any]]
) -> "grpc.Channel":
    """To HOST:PORT; with TLS if there is a certificate, which is the one to trust."""
    # grpc takes a tenth of a second to import, and clients over HTTP do without it.
    import grpc

    if certificate is None:
        return grpc.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(first_certificate(certificate).encode())
    if name := name_at(address, certificate):
        options = [*options, ("grpc.ssl_target_name_override", name)]
    return grpc.secure_channel(address, credentials, options=options)


def first_certificate(certificate: str) -> str:
    """Those after it are of whoever signed it, and of others too."""
    return Path(certificate).read_text().partition(END)[0] + END + "\n"


def name_at(address: str, certificate: str) -> str | None:
    """A name in the certificate that is shown there; gRPC insists on one. None if that fails, as
    it will again."""
    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=5.0) as plain,
            trust(certificate).wrap_socket(plain) as shown,
        ):
            found: Any = shown.getpeercert() or {}
    except OSError:
        return None
    names = [str(value) for _, value in found.get("subjectAltName", ())]
    return names[0].replace("*", "any") if names else None
