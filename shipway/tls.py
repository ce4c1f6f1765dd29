"""TLS between this project's clients and a server on the same machine."""

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc

END = "-----END CERTIFICATE-----"


def trust(certificate: str | None) -> ssl.SSLContext:
    """A context that trusts only the first certificate in this PEM file; none without a file.

    It does not check host names, because few certificates name the loopback address. Only the
    owner of this certificate's key can use it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if certificate is not None:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # without its issuer
        context.load_verify_locations(cadata=first_certificate(certificate))
    return context


def channel(
    address: str, certificate: str | None, options: Sequence[tuple[str, Any]]
) -> "grpc.Channel":
    """A gRPC channel to HOST:PORT, with TLS if there is a certificate to trust, a PEM file."""
    # grpc takes a tenth of a second to import, and HTTP clients do not need it.
    import grpc

    if certificate is None:
        return grpc.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(first_certificate(certificate).encode())
    if name := name_at(address, certificate):
        options = [*options, ("grpc.ssl_target_name_override", name)]
    return grpc.secure_channel(address, credentials, options=options)


def first_certificate(certificate: str) -> str:
    """The PEM text of the first certificate in a file. The others belong to its issuers."""
    return Path(certificate).read_text().partition(END)[0] + END + "\n"


def name_at(address: str, certificate: str) -> str | None:
    """A name in the certificate that the server at `address` presents, since gRPC checks names.

    None if the connection fails: gRPC's own will fail too.
    """
    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=5.0) as plain,
            trust(certificate).wrap_socket(plain) as secure,
        ):
            presented: Any = secure.getpeercert() or {}
    except OSError:
        return None
    names = [str(value) for _, value in presented.get("subjectAltName", ())]
    return names[0].replace("*", "any") if names else None
