"""Envoy's configuration as data: listeners, routes, clusters and endpoints (xDS v3).

Each function returns one resource, to be written as JSON. The field names are those of
envoyproxy.io/docs/envoy/latest/api-v3.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shipway.front.registered import Registered

TORCHSERVE = "torchserve"
"""The cluster of what is not answered by a worker itself."""
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
TYPES = "type.googleapis.com/envoy"
ERROR_TYPES = {
    400: "BadRequestException",
    401: "InvalidKeyException",
    404: "ResourceNotFoundException",
    408: "RequestTimeoutException",
    413: "PayloadTooLargeException",
    426: "BadRequestException",
    429: "TooManyRequestsException",
    431: "BadRequestException",
    503: "ServiceUnavailableException",
    504: "GatewayTimeoutException",
}
"""The `type` of errors that Envoy answers with, by their status. Where TorchServe has the same
error, its word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontConfig:
    """What does not change while the front runs."""

    folder: Path
    """Its own, private: of the files that Envoy reads and of its sockets."""
    host: str
    port: int
    """Where it listens for HTTP."""
    torchserve: str
    """HOST:PORT of TorchServe's own inference address, on loopback."""
    max_request_bytes: int
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
    """The listener for HTTP. It never changes, so that no client's connection has to end."""
    manager = {
        "@type": _filter_type("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "http",
        "codec_type": "AUTO",
        "rds": {"route_config_name": "http", "config_source": _file(config.folder, "rds")},
        "http_filters": [_authorization(), _router()],
        "http_protocol_options": {
            "accept_http_10": True,
            "default_host_for_http_10": "localhost",
        },
        "common_http_protocol_options": {"idle_timeout": IDLE_WITHIN},
        "request_headers_timeout": HEADERS_WITHIN,
        "request_timeout": REQUEST_WITHIN,
        "max_request_headers_kb": MOST_HEADER_KB,
        "stream_idle_timeout": IDLE_WITHIN,
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": False,
        "local_reply_config": _local_replies(),
    }
    return [
        {
            "@type": f"{TYPES}.config.listener.v3.Listener",
            "name": "http",
            "address": {"socket_address": {"address": config.host, "port_value": config.port}},
            "filter_chains": [
                {
                    "filters": [
                        {
                            "name": "envoy.filters.network.http_connection_manager",
                            "typed_config": manager,
                        }
                    ]
                }
            ],
            "per_connection_buffer_limit_bytes": 1024 * 1024,
        }
    ]


def routes(config: FrontConfig, registered: Registered) -> list[dict[str, Any]]:
    """Which path goes to which version's workers. Everything else goes to TorchServe."""
    sockets = registered.sockets()
    found = []
    for name, version in sockets:
        cluster = cluster_name(name, version)
        found += [
            _route(config, {"path": f"/predictions/{name}/{version}"}, cluster),
            *(
                _route(config, {"path": f"/v2/models/{name}/versions/{version}{end}"}, cluster)
                for end in ("", "/ready", "/infer")
            ),
        ]
    for name, version in sorted(registered.defaults.items()):
        if (name, version) in sockets:
            cluster = cluster_name(name, version)
            found += [
                _route(config, {"path": f"/predictions/{name}"}, cluster),
                *(
                    _route(config, {"path": f"/v2/models/{name}{end}"}, cluster)
                    for end in ("", "/ready", "/infer")
                ),
            ]
    rest = _route(config, {"prefix": "/"}, TORCHSERVE)
    if registered.token:
        rest["request_headers_to_add"] = [
            {
                "header": {"key": "authorization", "value": f"Bearer {registered.token}"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ]
    return [
        {
            "@type": f"{TYPES}.config.route.v3.RouteConfiguration",
            "name": "http",
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [*found, rest],
                    "typed_per_filter_config": _tokens(registered),
                }
            ],
        }
    ]


def clusters(config: FrontConfig, registered: Registered) -> list[dict[str, Any]]:
    """TorchServe, and each version's workers."""
    host, _, port = config.torchserve.rpartition(":")
    torchserve = _cluster(TORCHSERVE) | {
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": TORCHSERVE,
            "endpoints": [
                {
                    "lb_endpoints": [
                        _endpoint({"socket_address": {"address": host, "port_value": int(port)}})
                    ]
                }
            ],
        },
    }
    return [
        torchserve,
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


def _route(config: FrontConfig, match: dict[str, str], cluster: str) -> dict[str, Any]:
    return {
        "match": match,
        "route": {
            "cluster": cluster,
            "timeout": f"{config.answer_within_s:g}s",
            # What no worker has read may go to another one.
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": 3,
                "retry_host_predicate": [
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": f"{TYPES}.extensions.retry.host.previous_hosts.v3."
                            "PreviousHostsPredicate"
                        },
                    }
                ],
            },
        },
    }


def _authorization() -> dict[str, Any]:
    """Refuses a request before its body is read, by the rules that `_tokens` gives."""
    return {
        "name": AUTHORIZATION,
        "typed_config": {"@type": _filter_type("http.rbac.v3.RBAC")},
    }


def _tokens(registered: Registered) -> dict[str, Any]:
    if not registered.tokens:
        return {}
    allowed = [
        {"header": {"name": "authorization", "string_match": {"exact": f"Bearer {token}"}}}
        for token in registered.tokens
    ]
    one_of_them = {
        "permissions": [{"any": True}],
        "principals": [{"or_ids": {"ids": allowed}}],
    }
    return {
        AUTHORIZATION: {
            "@type": _filter_type("http.rbac.v3.RBACPerRoute"),
            "rbac": {"rules": {"action": "ALLOW", "policies": {"token": one_of_them}}},
        }
    }


def _local_replies() -> dict[str, Any]:
    """Envoy's own answers in the form of TorchServe's errors."""

    def mapper(
        found: int, status: int, message: str, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        return {
            "filter": {
                "status_code_filter": {
                    "comparison": {
                        "op": "EQ",
                        "value": {"default_value": found, "runtime_key": f"status.{found}"},
                    }
                }
            },
            "status_code": status,
            "headers_to_add": [
                {
                    "header": {"key": key, "value": value},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
                for key, value in (headers or {}).items()
            ],
            "body_format_override": _body(status, message),
        }

    return {
        "mappers": [
            mapper(
                403,
                401,
                "The inference token is missing or wrong. Send the header Authorization: Bearer "
                "TOKEN.",
                {"www-authenticate": "Bearer"},
            ),
            mapper(503, 503, "%LOCAL_REPLY_BODY%", {"retry-after": "1"}),
            *(
                mapper(status, status, "%LOCAL_REPLY_BODY%")
                for status in ERROR_TYPES
                if status not in (401, 503)
            ),
        ],
        "body_format": _body(500, "%LOCAL_REPLY_BODY%"),
    }


def _body(status: int, message: str) -> dict[str, Any]:
    return {
        "json_format": {
            "code": "%RESPONSE_CODE%",
            "type": ERROR_TYPES.get(status, "InternalServerException"),
            "message": message,
        }
    }


def _router() -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": _filter_type("http.router.v3.Router"),
            "suppress_envoy_headers": True,
        },
    }


def _filter_type(name: str) -> str:
    return f"{TYPES}.extensions.filters.{name}"


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
