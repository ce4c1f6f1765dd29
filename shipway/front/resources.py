"""Envoy's configuration as data: listeners, routes, clusters and endpoints (xDS v3).

Each function returns one resource, to be written as JSON. The field names are those of
envoyproxy.io/docs/envoy/latest/api-v3.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shipway.front.cors import Cors, cors_filter
from shipway.front.errors import grpc_local_replies, local_replies
from shipway.front.grpc_filters import grpc_filters
from shipway.front.key_filters import keys_filter, limits_filter
from shipway.front.registered import Registered
from shipway.front.types import TYPES, filter_type
from shipway.serving.deadlines import FRONT_WITHIN, WITHIN

TORCHSERVE = "torchserve"
"""The cluster of what is not answered by a worker itself."""
TORCHSERVE_GRPC = "torchserve-grpc"
WORKER_PREFIX = "worker"
HEADERS_WITHIN = "10s"
"""From the first byte of a request to the last of its headers."""
REQUEST_WITHIN = "60s"
"""From the first byte of a request to its last. A slow client is closed."""
IDLE_WITHIN = "300s"
MOST_HEADER_KB = 60
MESSAGE_FRAME_BYTES = 5
"""What gRPC puts before each message."""
CONNECTION_WINDOW_BYTES = 24 * 2**20
"""Of HTTP/2, Envoy's default: what a connection's clients may send ahead of being read."""
MOST_CONNECTIONS = 10_000
"""Of clients. Further ones are refused."""
CONNECT_WITHIN = "1s"
AUTHORIZATION = "envoy.filters.http.rbac"
LISTENERS = 2  # for HTTP and for gRPC
ROUTES = "all"
ROUTES_FILE = "rds"
LISTENER_HEADER = "x-shipway-listener"
"""A header on the way through Envoy, by which a listener finds its own routes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontConfig:
    """What does not change while the front runs."""

    folder: Path
    """Its own, private: of the files that Envoy reads and of its sockets."""
    host: str
    port: int
    """Where it listens for HTTP."""
    grpc_host: str
    grpc_port: int
    """Where it listens for gRPC."""
    torchserve: str
    """HOST:PORT of TorchServe's own inference address, on loopback."""
    torchserve_grpc: str
    """The same for gRPC."""
    certificate: str | None = None
    """For TLS, a PEM file. None: no TLS."""
    private_key: str | None = None
    cors: Cors | None = None
    max_body_bytes: int = 20 * 2**20
    """Of a request."""
    answer_within_s: float = 150.0
    """After this time a request is given up. It is longer than a worker may take."""


LEAST_REQUESTS = {
    "name": "envoy.load_balancing_policies.least_request",
    "typed_config": {
        "@type": f"{TYPES}.extensions.load_balancing_policies.least_request.v3.LeastRequest",
        # Of all workers. The least of two random draws would send every fourth request to a worker
        # that hangs, if there are two, until all clients waited for it.
        "selection_method": "FULL_SCAN",
    },
}
WITHOUT_CONNECTION = {
    # A worker that has died has the least requests of all. It gets none for a moment, unless there
    # is no other: its successor listens at the same path.
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 1,
    "enforcing_consecutive_local_origin_failure": 100,
    "enforcing_consecutive_5xx": 0,
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
    "interval": "0.1s",
    "base_ejection_time": "0.2s",
    "max_ejection_time": "0.2s",
    "max_ejection_percent": 100,
}


def bootstrap(config: FrontConfig) -> dict[str, Any]:
    """What Envoy is started with; everything else it reads from the files of `config.folder`."""

    def from_file(name: str) -> dict[str, Any]:
        return _file(config.folder, name) | {"resource_api_version": "V3"}

    return {
        "node": {"id": "shipway", "cluster": "shipway"},
        "admin": {"address": _pipe(str(admin_socket(config.folder)), mode=0o600)},
        "dynamic_resources": {"lds_config": from_file("lds"), "cds_config": from_file("cds")},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{TYPES}.extensions.resource_monitors."
                        "downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": MOST_CONNECTIONS,
                    },
                }
            ]
        },
    }


def admin_socket(folder: Path) -> Path:
    """The unix socket of Envoy's admin interface, in the front's folder."""
    return folder / "admin.sock"


def listeners(config: FrontConfig) -> list[dict[str, Any]]:
    """The listeners for HTTP and gRPC. They never change: no client's connection has to end."""
    who = [keys_filter(), _authorization(), limits_filter()]
    calls = [*who, *grpc_filters()]
    return [
        _listener(config, "http", config.host, config.port, [cors_filter(), *who]),
        _listener(config, "grpc", config.grpc_host, config.grpc_port, calls),
    ]


def _large_messages(config: FrontConfig) -> dict[str, int]:
    """A message is read whole to find its model, and Envoy keeps no more of a body than this window
    is large."""
    # A larger one has to arrive for the worker to refuse it with the reason.
    window = config.max_body_bytes + MESSAGE_FRAME_BYTES + 2**16
    return {
        "initial_stream_window_size": window,
        "initial_connection_window_size": max(window, CONNECTION_WINDOW_BYTES),
    }


def _listener(
    config: FrontConfig, name: str, host: str, port: int, filters: list[dict[str, Any]]
) -> dict[str, Any]:
    manager = {
        "@type": filter_type("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "codec_type": "AUTO",
        # The same for both, so that a key's limit counts what it asks in either way.
        "rds": {"route_config_name": ROUTES, "config_source": _file(config.folder, ROUTES_FILE)},
        "http_filters": [*filters, _router()],
        "http_protocol_options": {
            "accept_http_10": True,
            "default_host_for_http_10": "localhost",
        },
        "common_http_protocol_options": {"idle_timeout": IDLE_WITHIN},
        "http2_protocol_options": _large_messages(config) if name == "grpc" else {},
        "request_headers_timeout": HEADERS_WITHIN,
        "request_timeout": REQUEST_WITHIN,
        "max_request_headers_kb": MOST_HEADER_KB,
        "stream_idle_timeout": IDLE_WITHIN,
        "early_header_mutation_extensions": [_early_headers(name)],
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": False,
        "local_reply_config": grpc_local_replies(config.max_body_bytes)
        if name == "grpc"
        else local_replies(),
    }
    manager_filter = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }
    return {
        "@type": f"{TYPES}.config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": host, "port_value": port}},
        "filter_chains": [{"filters": [manager_filter]} | _tls(config)],
        "per_connection_buffer_limit_bytes": 1024 * 1024,
    }


def _tls(config: FrontConfig) -> dict[str, Any]:
    """What a listener's chain of filters has for TLS."""
    if config.certificate is None:
        return {}
    pair = {
        "certificate_chain": {"filename": config.certificate},
        "private_key": {"filename": config.private_key},
    }
    settings = {"tls_certificates": [pair], "alpn_protocols": ["h2", "http/1.1"]}
    return {"transport_socket": _transport("DownstreamTlsContext", settings)}


def _transport(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPES}.extensions.transport_sockets.tls.v3.{kind}",
            "common_tls_context": settings,
        },
    }


def clusters(config: FrontConfig, registered: Registered) -> list[dict[str, Any]]:
    """TorchServe, and each version's workers."""
    protocol = f"{TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": protocol, "explicit_http_config": {"http2_protocol_options": {}}}
    # With TLS, TorchServe's gRPC has it at each of its addresses. This one is on loopback.
    secured = {"transport_socket": _transport("UpstreamTlsContext", {})}
    return [
        _static(TORCHSERVE, config.torchserve),
        _static(TORCHSERVE_GRPC, config.torchserve_grpc)
        | {"typed_extension_protocol_options": {protocol.partition("/")[2]: http2}}
        | (secured if config.certificate else {}),
        *(
            _cluster(cluster_name(name, version))
            | {
                "type": "EDS",
                "eds_cluster_config": {
                    "eds_config": _file(config.folder, endpoints_file(cluster_name(name, version)))
                },
            }
            for name, version in registered.sockets()
        ),
    ]


def endpoints(registered: Registered) -> dict[str, list[dict[str, Any]]]:
    """The workers of each version, by the name of its file: Envoy takes one cluster's from each."""
    found = {}
    for (name, version), paths in registered.sockets().items():
        cluster = cluster_name(name, version)
        workers = {
            "@type": f"{TYPES}.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": cluster,
            "endpoints": [{"lb_endpoints": [_endpoint(_pipe(path)) for path in paths]}],
        }
        found[endpoints_file(cluster)] = [workers]
    return found


def endpoints_file(cluster: str) -> str:
    """The name of the file with a cluster's endpoints."""
    return f"eds-{hashlib.sha256(cluster.encode()).hexdigest()[:32]}"


def cluster_name(name: str, version: str) -> str:
    """The cluster of a version's workers."""
    return f"{WORKER_PREFIX}/{name}/{version}"


def _static(name: str, address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    socket = {"socket_address": {"address": host, "port_value": int(port)}}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [_endpoint(socket)]}]}
    return _cluster(name) | {"type": "STATIC", "load_assignment": assignment}


def _cluster(name: str) -> dict[str, Any]:
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    unlimited = dict.fromkeys(limits, 2**20)
    return {
        "@type": f"{TYPES}.config.cluster.v3.Cluster",
        "name": name,
        "connect_timeout": CONNECT_WITHIN,
        "load_balancing_policy": {"policies": [{"typed_extension_config": LEAST_REQUESTS}]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "outlier_detection": WITHOUT_CONNECTION,
        # A worker refuses what it has no room for, and says so in the form that clients expect.
        "circuit_breakers": {"thresholds": [unlimited]},
    }


def _authorization() -> dict[str, Any]:
    """Refuses a request before its body is read, by the rules that `_tokens` gives."""
    return {
        "name": AUTHORIZATION,
        "typed_config": {"@type": filter_type("http.rbac.v3.RBAC")},
    }


def _early_headers(listener: str) -> dict[str, Any]:
    """Keeps the client's deadline, which Envoy takes away as it does with all headers that are its
    own, and says at which listener a request arrived."""
    kept = {"key": FRONT_WITHIN, "value": f"%REQ({WITHIN})%"}
    arrived = {"key": LISTENER_HEADER, "value": listener}
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{TYPES}.extensions.http.early_header_mutation.header_mutation.v3."
            "HeaderMutation",
            "mutations": [
                {"remove": FRONT_WITHIN},
                {"append": {"header": kept, "append_action": "APPEND_IF_EXISTS_OR_ADD"}},
                {"append": {"header": arrived, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
            ],
        },
    }


def _router() -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": filter_type("http.router.v3.Router"),
            "suppress_envoy_headers": True,
        },
    }


def _endpoint(address: dict[str, Any]) -> dict[str, Any]:
    return {"endpoint": {"address": address}}


def _pipe(path: str, **settings: Any) -> dict[str, Any]:
    return {"pipe": {"path": path, **settings}}


def _file(folder: Path, name: str) -> dict[str, Any]:
    """A configuration source: a file that is replaced by renaming another over it."""
    return {
        "path_config_source": {
            "path": str(folder / f"{name}.json"),
            "watched_directory": {"path": str(folder)},
        }
    }
