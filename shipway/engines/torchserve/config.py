"""Reads and checks the settings in config.properties that this project depends on."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shipway.engines.errors import ConfigError
from shipway.engines.state import CONFIG_NAME, Addresses
from shipway.engines.torchserve import tls
from shipway.engines.torchserve.setting_names import check_names
from shipway.files import shipped
from shipway.front.cors import Cors

DEFAULT_MAX_REQUEST_BYTES = 6_553_500
"""TorchServe's own default."""
DEFAULT_JOB_QUEUE_SIZE = 100
"""TorchServe's own default."""
DEFAULT_RESPONSE_TIMEOUT_S = 120
"""TorchServe's own default."""
CORS_KEYS = ("cors_allowed_origin", "cors_allowed_methods", "cors_allowed_headers")
DEFAULT_CORS_METHODS = "GET, POST, PUT, OPTIONS"
DEFAULT_CORS_HEADERS = "authorization, content-type, x-request-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An address on which the server accepts connections."""

    purpose: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """HOST:PORT for a client on this machine."""
        loopback_of = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "[::]": "[::1]"}
        return f"{loopback_of.get(self.host, self.host)}:{self.port}"

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can reach it. False for host names other than localhost."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One config.properties, read and checked."""

    path: Path
    inference: Listener
    management: Listener
    metrics: Listener
    grpc_inference: Listener
    grpc_management: Listener
    exporter: Listener | None
    """This project's own setting, unknown to TorchServe. None: no metrics are recorded."""
    certificate: Path | None
    """A PEM file, for TLS on all of TorchServe's addresses. None: no TLS."""
    private_key: Path | None
    """Its key, a PEM file."""
    may_expose_management: bool
    """One of the two permissions that `check_exposure` needs. The other is on the command line."""
    max_request_bytes: int
    max_response_bytes: int
    job_queue_size: int
    """How many requests may wait for a model."""
    response_timeout_s: int
    """How long a worker may take for a batch, unless its archive says otherwise."""
    with_tokens: bool
    """Whether requests need a token."""
    front: bool
    """Whether Envoy takes the requests, and passes those for this project's models directly to
    their workers. This project's own setting, unknown to TorchServe."""
    cors: Cors | None
    """Whether pages of other sites may ask; TorchServe's own settings."""
    vm_args: tuple[str, ...]
    """Arguments for the Java command line."""
    require_signature: bool
    """Whether only signed archives may be registered."""
    trusted_keys: tuple[Path, ...]
    """Public keys, PEM files. A signature by any of them is accepted."""

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """All addresses of the server, the exporter's included."""
        return (
            self.inference,
            self.management,
            self.metrics,
            self.grpc_inference,
            self.grpc_management,
            *((self.exporter,) if self.exporter else ()),
        )

    @property
    def exposed(self) -> tuple[Listener, ...]:
        """TorchServe's management and metrics addresses that other machines can reach.

        The exporter is not among them: a Prometheus on another machine may read it, and it
        changes nothing.
        """
        private = (self.management, self.metrics, self.grpc_management)
        return tuple(listener for listener in private if not listener.is_on_loopback)

    @property
    def addresses(self) -> Addresses:
        """The addresses for clients on this machine."""
        scheme = "https" if self.certificate else "http"
        return Addresses(
            inference=f"{scheme}://{self.inference.address}",
            management=f"{scheme}://{self.management.address}",
            metrics=f"{scheme}://{self.metrics.address}",
            grpc_inference=self.grpc_inference.address,
            grpc_management=self.grpc_management.address,
            exporter=f"http://{self.exporter.address}" if self.exporter else None,
        )


def find_config(start: Path) -> Path:
    """The nearest config.properties, from `start` upward. If there is none, the one that comes with
    Shipway."""
    for folder in (start, *start.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
    return shipped(CONFIG_NAME)


def default_model_store(config: Path, start: Path) -> Path:
    """The model store of a server with this configuration, unless the user names one.

    It is beside the file. The configuration that comes with Shipway may be inside site-packages;
    for that file the store is in `start`, unless `start` is in the file's own folder (a checkout).
    """
    is_shipped = config.resolve() == shipped(CONFIG_NAME).resolve()
    if is_shipped and config.resolve().parent not in (start, *start.parents):
        return start / "model_store"
    return config.parent / "model_store"


def read_config(path: Path, environment: Mapping[str, str] = os.environ) -> ServerConfig:
    """Reads and checks a config.properties.

    Raises ConfigError with the key, also for settings that TorchServe would report late or never.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{path} cannot be read: {reason}. Name another file with --config."
        ) from error
    values = {
        key: _with_variables(value, environment) for key, value in parse_properties(text).items()
    }
    check_names(path, values)

    def http(purpose: str, key: str, port: int) -> Listener:
        return _http_listener(path, purpose, key, values.get(key, f"http://127.0.0.1:{port}"))

    def grpc(purpose: str, key: str, port: int) -> Listener:
        value = values.get(f"{key}_port", str(port))
        if not _is_port(value):
            raise ConfigError(f"{path}: {key}_port={value} is not a port. Write 1 to 65534.")
        host = values.get(f"{key}_address", "127.0.0.1")
        return Listener(purpose=purpose, host=host, port=int(value))

    certificate, private_key = _certificate(path, values)
    config = ServerConfig(
        path=path.resolve(),
        inference=http("inference", "inference_address", 8080),
        management=http("management", "management_address", 8081),
        metrics=http("metrics", "metrics_address", 8082),
        grpc_inference=grpc("gRPC inference", "grpc_inference", 7070),
        grpc_management=grpc("gRPC management", "grpc_management", 7071),
        exporter=(
            None
            if values.get("exporter_address") == ""
            else http("exporter", "exporter_address", 9404)
        ),
        certificate=certificate,
        private_key=private_key,
        may_expose_management=_is_true(path, "allow_management_beyond_loopback", values),
        max_request_bytes=_number(
            path, "max_request_size", values, DEFAULT_MAX_REQUEST_BYTES, "bytes"
        ),
        max_response_bytes=_number(
            path, "max_response_size", values, DEFAULT_MAX_REQUEST_BYTES, "bytes"
        ),
        job_queue_size=_number(path, "job_queue_size", values, DEFAULT_JOB_QUEUE_SIZE, "requests"),
        response_timeout_s=_number(
            path, "default_response_timeout", values, DEFAULT_RESPONSE_TIMEOUT_S, "seconds"
        ),
        with_tokens=not _is_true(path, "disable_token_authorization", values),
        front=_is_on(path, "front", values),
        cors=_cors(path, values),
        vm_args=tuple(values.get("vmargs", "").split()),
        require_signature=_is_true(path, "require_signature", values),
        trusted_keys=_trusted_keys(path, values.get("trusted_keys", "")),
    )
    if config.require_signature and not config.trusted_keys:
        raise ConfigError(
            f"{path}: require_signature=true, but trusted_keys is empty. Set it to the public "
            "keys that may sign archives: PEM files, separated by commas."
        )
    purposes: dict[int, str] = {}
    for listener in config.listeners:
        other = purposes.setdefault(listener.port, listener.purpose)
        if other != listener.purpose:
            raise ConfigError(
                f"{path}: {other} and {listener.purpose} both use port {listener.port}. "
                "Give each its own port."
            )
    return config


def parse_properties(text: str) -> dict[str, str]:
    r"""Parses Java's format: `#` and `!` comments, `=` or `:`, `\` continues a line."""
    values: dict[str, str] = {}
    logical_lines = re.sub(r"(?<!\\)((?:\\\\)*)\\\n[ \t]*", r"\1", text).splitlines()
    for line in map(str.strip, logical_lines):
        if line and line[0] not in "#!":
            key, _, value = re.sub(r"\s*[=:]\s*|\s+", "=", line, count=1).partition("=")
            values[key] = re.sub(r"\\(.)", r"\1", value)
    return values


def with_settings(text: str, settings: Mapping[str, object]) -> str:
    """The text of a config.properties with the values in `settings`."""
    for key, value in settings.items():
        line = f"{key}={value}"
        kept = [old for old in text.splitlines() if not old.startswith(f"{key}=")]
        text = "\n".join([*kept, line]) + "\n"
    return text


def _with_variables(value: str, environment: Mapping[str, str]) -> str:
    """Replaces TorchServe's $$NAME$$ by environment variables."""
    return re.sub(r"\$\$(\w+)\$\$", lambda match: environment.get(match[1], match[0]), value)


def _is_true(path: Path, key: str, values: Mapping[str, str]) -> bool:
    # Strict: "yes" or "1" must not silently turn a safeguard off.
    value = values.get(key, "false")
    if value not in ("true", "false"):
        raise ConfigError(f"{path}: {key}={value} is not valid. Use true or false.")
    return value == "true"


def _number(path: Path, key: str, values: Mapping[str, str], default: int, unit: str) -> int:
    value = values.get(key, str(default))
    if not value.isdigit():
        raise ConfigError(f"{path}: {key}={value} is not a number of {unit}.")
    return int(value)


def _is_on(path: Path, key: str, values: Mapping[str, str]) -> bool:
    value = values.get(key, "on")
    if value not in ("on", "off"):
        raise ConfigError(f"{path}: {key}={value} is not valid. Use on or off.")
    return value == "on"


def _certificate(path: Path, values: Mapping[str, str]) -> tuple[Path, Path] | tuple[None, None]:
    """The certificate of a server with TLS and its key, checked. None without TLS."""
    secure = {
        key: values.get(key, "").startswith("https://")
        for key in ("inference_address", "management_address", "metrics_address")
    } | {"enable_grpc_ssl": _is_true(path, "enable_grpc_ssl", values)}
    if not any(secure.values()):
        return None, None
    if plain := [key for key, is_secure in secure.items() if not is_secure]:
        raise ConfigError(
            f"{path}: TLS must be on for all addresses or for none, and it is off for "
            f"{', '.join(plain)}. Use https://HOST:PORT, and enable_grpc_ssl=true."
        )
    files: list[Path] = []
    for key in ("certificate_file", "private_key_file"):
        file = Path(values.get(key, ""))
        if not file.is_absolute() or not file.is_file():
            raise ConfigError(
                f"{path}: {key}={values.get(key, '')} is not the absolute path of a file. Give "
                "the absolute path of a PEM file: TorchServe resolves relative paths in the "
                "server's state directory."
            )
        files.append(file)
    tls.check(*files)
    return files[0], files[1]


def _cors(path: Path, values: Mapping[str, str]) -> Cors | None:
    origin, methods, headers = (values.get(key, "").strip() for key in CORS_KEYS)
    if not origin:
        return None
    if origin != "*" and not re.fullmatch(r"https?://[^/,\s]+", origin):
        raise ConfigError(
            f"{path}: {CORS_KEYS[0]}={origin} is not an origin. Write SCHEME://HOST or "
            "SCHEME://HOST:PORT without a path, or * for any."
        )
    return Cors(
        origin=origin,
        methods=methods or DEFAULT_CORS_METHODS,
        headers=headers or DEFAULT_CORS_HEADERS,
    )


def _trusted_keys(path: Path, value: str) -> tuple[Path, ...]:
    keys = tuple(path.resolve().parent / key.strip() for key in value.split(",") if key.strip())
    for key in keys:
        if not key.is_file():
            raise ConfigError(
                f"{path}: trusted_keys lists {key}, which does not exist. Correct the path."
            )
    return keys


def _http_listener(path: Path, purpose: str, key: str, value: str) -> Listener:
    parts = urlsplit(value)
    port = parts.netloc.rpartition(":")[2]
    schemes = ("http",) if key == "exporter_address" else ("http", "https")
    if parts.scheme not in schemes or not parts.hostname or not _is_port(port):
        raise ConfigError(
            f"{path}: {key}={value} is not a valid address. Use "
            f"{' or '.join(f'{scheme}://HOST:PORT' for scheme in schemes)}."
        )
    return Listener(purpose=purpose, host=parts.hostname, port=int(port))


def _is_port(value: str) -> bool:
    return value.isdigit() and 1 <= int(value) < 65535  # TorchServe refuses 65535
