"""Envoy's configuration as data: listeners, routes, clusters and endpoints (xDS v3).

Each function returns one resource, to be written as JSON. The field names are those of
envoyproxy.io/docs/envoy/latest/api-v3.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shipway.front.errors import grpc_local_replies, local_replies
from shipway.front.grpc_filters import grpc_filters
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
MOST_CONNECTIONS = 10_000
"""Of clients. Further ones are refused."""
CONNECT_WITHIN = "1s"
AUTHORIZATION = "envoy.filters.http.rbac"


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
    answer_within_s: float = 150.0
    """After this time a request is given up. It is longer than a worker may take."""


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
    calls = [_authorization(), *grpc_filters()]
    return [
        _listener(config, "http", config.host, config.port, [_authorization()]),
        _listener(config, "grpc", config.grpc_host, config.grpc_port, calls),
    ]


def _listener(
    config: FrontConfig, name: str, host: str, port: int, filters: list[dict[str, Any]]
) -> dict[str, Any]:
    manager = {
        "@type": filter_type("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "codec_type": "AUTO",
        "rds": {"route_config_name": name, "config_source": _file(config.folder, f"rds-{name}")},
        "http_filters": [*filters, _router()],
        "http_protocol_options": {
            "accept_http_10": True,
            "default_host_for_http_10": "localhost",
        },
        "common_http_protocol_options": {"idle_timeout": IDLE_WITHIN},
        "request_headers_timeout": HEADERS_WITHIN,
        "request_timeout": REQUEST_WITHIN,
        "max_request_headers_kb": MOST_HEADER_KB,
        "stream_idle_timeout": IDLE_WITHIN,
        "early_header_mutation_extensions": [_kept_deadline()],
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": False,
        "local_reply_config": grpc_local_replies() if name == "grpc" else local_replies(),
    }
    manager_filter = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }
    return {
        "@type": f"{TYPES}.config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": host, "port_value": port}},
        "filter_chains": [{"filters": [manager_filter]}],
        "per_connection_buffer_limit_bytes": 1024 * 1024,
    }


def clusters(config: FrontConfig, registered: Registered) -> list[dict[str, Any]]:
    """TorchServe, and each version's workers."""
    protocol = f"{TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": protocol, "explicit_http_config": {"http2_protocol_options": {}}}
    return [
        _static(TORCHSERVE, config.torchserve),
        _static(TORCHSERVE_GRPC, config.torchserve_grpc)
        | {"typed_extension_protocol_options": {protocol.partition("/")[2]: http2}},
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
    unlimited = {"max_connections": 2**20, "max_pending_requests": 2**20, "max_requests": 2**20}
    return {
        "@type": f"{TYPES}.config.cluster.v3.Cluster",
        "name": name,
        "connect_timeout": CONNECT_WITHIN,
        "lb_policy": "LEAST_REQUEST",
        # A worker refuses what it has no room for, and says so in the form that clients expect.
        "circuit_breakers": {"thresholds": [unlimited]},
    }


def _authorization() -> dict[str, Any]:
    """Refuses a request before its body is read, by the rules that `_tokens` gives."""
    return {
        "name": AUTHORIZATION,
        "typed_config": {"@type": filter_type("http.rbac.v3.RBAC")},
    }


def _kept_deadline() -> dict[str, Any]:
    """Envoy takes the client's deadline away, as it does with all headers that are its own."""
    kept = {"key": FRONT_WITHIN, "value": f"%REQ({WITHIN})%"}
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{TYPES}.extensions.http.early_header_mutation.header_mutation.v3."
            "HeaderMutation",
            "mutations": [
                {"remove": FRONT_WITHIN},
                {"append": {"header": kept, "append_action": "APPEND_IF_EXISTS_OR_ADD"}},
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
