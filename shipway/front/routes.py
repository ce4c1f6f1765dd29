"""Which requests go to which version's workers, as Envoy's routes (xDS v3)."""

from typing import Any

from shipway.front.cors import cors_policy
from shipway.front.grpc_filters import (
    BRIDGE,
    HEALTH,
    MODEL_HEADER,
    OIP_SERVICE,
    ROUTED_CALLS,
    STREAM_PREDICTIONS,
    STREAMS,
    TORCHSERVES_OIP_SERVICE,
    TORCHSERVES_SERVICE,
    VERSION_HEADER,
    without_bridge,
)
from shipway.front.key_filters import has_key, key_rules
from shipway.front.registered import DEATHS_WITHIN_S, MOST_DEATHS, Registered
from shipway.front.resources import (
    AUTHORIZATION,
    LISTENER_HEADER,
    ROUTES,
    TORCHSERVE,
    TORCHSERVE_GRPC,
    FrontConfig,
    cluster_name,
)
from shipway.front.types import TYPES, filter_type

UNREGISTERED = "This version is being unregistered. Send requests to another one."
IDLE = (
    "Every model is scaled to 0 workers. Give one a worker in models.yaml (`shipway apply`), or by "
    "the management API: PUT /models/NAME?min_worker=1."
)
HTTP_HEALTH = ("/ping", "/v2/health/ready")
GRPC_HEALTH = (
    f"{TORCHSERVES_SERVICE}/Ping",
    f"{OIP_SERVICE}/ServerReady",
    f"{TORCHSERVES_OIP_SERVICE}/ServerReady",
    HEALTH,
)
"""What is asked to learn whether requests should be sent here. /v2/health/live is not among them:
it tells whether the server answers at all."""
OFTEN_DIED = (
    f"This version is out of service, since its workers died more than {MOST_DEATHS} times each "
    f"within {DEATHS_WITHIN_S:.0f} seconds. The server's log has the reasons."
)


def routes(config: FrontConfig, registered: Registered) -> dict[str, Any]:
    """The routes of both listeners, and who may ask."""
    return {
        "@type": f"{TYPES}.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        # One virtual host for each listener, whatever host a client asks for.
        "vhost_header": LISTENER_HEADER,
        "virtual_hosts": [
            {
                "name": "http",
                "domains": ["http"],
                "routes": http_routes(config, registered),
                "typed_per_filter_config": cors_policy(config.cors),
            },
            {"name": "grpc", "domains": ["grpc"], "routes": grpc_routes(config, registered)},
        ],
        "request_headers_to_remove": [LISTENER_HEADER],
        "typed_per_filter_config": _who_may_ask(registered),
    }


def http_routes(config: FrontConfig, registered: Registered) -> list[dict[str, Any]]:
    """Which path goes to which version's workers. Everything else goes to TorchServe."""
    found = []
    for name, version, cluster in _targets(registered):
        paths = [*_paths(name, version), *_metadata_paths(name, version)]
        found += [_route(config, {"path": path}, cluster) for path in paths]
    for name, version, reason in _refused(registered):
        found += [_answered({"path": path}, 503, reason) for path in _paths(name, version)]
    rest = _with_token(_route(config, {"prefix": "/"}, TORCHSERVE), registered)
    # TorchServe calls itself healthy as long as each model has the workers that it should have.
    unwell = [_answered({"path": path}, 503, IDLE) for path in HTTP_HEALTH if registered.idle]
    return [*found, *unwell, _alive(), rest]


def grpc_routes(config: FrontConfig, registered: Registered) -> list[dict[str, Any]]:
    """The same for calls, by the model and version that their messages name."""
    found: list[dict[str, Any]] = []
    for name, version, cluster in _targets(registered):
        named = _named(name, version)
        found += [
            _route(config, {"path": path, "headers": named}, cluster) for path in ROUTED_CALLS
        ]
        found.append(_unimplemented({"path": STREAM_PREDICTIONS, "headers": named}))
    for name, version, reason in _refused(registered):
        for path in ROUTED_CALLS:
            found.append(_answered({"path": path, "headers": _named(name, version)}, 503, reason))
    for _, _, cluster in _targets(registered)[:1]:  # any worker can tell that the server lives
        health = {"path": HEALTH, "headers": [_header(MODEL_HEADER, "")]}
        found.append(_route(config, health, cluster))
    found += [_answered({"path": path}, 503, IDLE) for path in GRPC_HEALTH if registered.idle]
    found += [_unimplemented({"path": path}) for path in STREAMS]
    # TorchServe has the protocol under a name of its own.
    renamed = _to_torchserve_grpc(config, {"prefix": f"{OIP_SERVICE}/"}, registered)
    renamed["route"]["prefix_rewrite"] = f"{TORCHSERVES_OIP_SERVICE}/"
    rest = _to_torchserve_grpc(config, {"prefix": "/"}, registered)
    return [*found, renamed, rest]


def _targets(registered: Registered) -> list[tuple[str, str | None, str]]:
    """The names, versions and clusters that have workers; no version stands for the default."""
    sockets = registered.sockets()
    named = [(name, version, cluster_name(name, version)) for name, version in sockets]
    defaults = [
        (name, None, cluster_name(name, version))
        for name, version in sorted(registered.defaults.items())
        if (name, version) in sockets
    ]
    return [*named, *defaults]


def _refused(registered: Registered) -> list[tuple[str, str | None, str]]:
    """The names and versions that get no requests, and why; no version stands for the default.

    TorchServe does not get them either: it would never answer what waits for a version when that is
    unregistered.
    """
    reasons = dict.fromkeys(registered.failing, OFTEN_DIED)
    reasons |= dict.fromkeys(registered.withdrawn, UNREGISTERED)
    defaults = [
        (name, None, reasons[name, version])
        for name, version in sorted(registered.defaults.items())
        if (name, version) in reasons
    ]
    return [*((*version, reasons[version]) for version in sorted(reasons)), *defaults]


def _to_torchserve_grpc(
    config: FrontConfig, match: dict[str, Any], registered: Registered
) -> dict[str, Any]:
    route = _with_token(_route(config, match, TORCHSERVE_GRPC), registered)
    return route | {"typed_per_filter_config": {BRIDGE: without_bridge()}}


def _with_token(route: dict[str, Any], registered: Registered) -> dict[str, Any]:
    """Puts TorchServe's own token in place of the client's."""
    if registered.token:
        route["request_headers_to_add"] = [
            {
                "header": {"key": "authorization", "value": f"Bearer {registered.token}"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ]
    return route


def _unimplemented(match: dict[str, Any]) -> dict[str, Any]:
    # Envoy makes UNIMPLEMENTED of this status (its Grpc::Utility::httpToGrpcStatus).
    return _answered(match, 404, "Streams are not supported. Use the unary call.")


def _alive() -> dict[str, Any]:
    """KServe's first protocol asks here whether the server lives. TorchServe answers OPTIONS."""
    match = {"path": "/", "headers": [_header(":method", "GET")]}
    content_type = {
        "header": {"key": "content-type", "value": "application/json"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    return _answered(match, 200, '{"status": "alive"}') | {
        "response_headers_to_add": [content_type]
    }


def _answered(match: dict[str, Any], status: int, text: str) -> dict[str, Any]:
    """A route that Envoy answers itself."""
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": text}},
        "typed_per_filter_config": {BRIDGE: without_bridge()},
    }


def _paths(name: str, version: str | None) -> list[str]:
    """The paths that a version's workers alone can answer. KServe's first protocol knows no
    versions."""
    native, v2 = f"/predictions/{name}", f"/v2/models/{name}"
    if version:
        native, v2 = f"{native}/{version}", f"{v2}/versions/{version}"
    first = [] if version else [f"/v1/models/{name}:predict"]
    return [native, f"{v2}/infer", f"{v2}/ready", *first]


def _metadata_paths(name: str, version: str | None) -> list[str]:
    """The paths of a version's metadata, which TorchServe answers, too."""
    if version:
        return [f"/v2/models/{name}/versions/{version}"]
    return [f"/v2/models/{name}", f"/v1/models/{name}"]


def _named(name: str, version: str | None) -> list[dict[str, Any]]:
    """The headers of a call whose message names this model and version."""
    return [_header(MODEL_HEADER, name), _header(VERSION_HEADER, version or "")]


def _header(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"exact": value}}


def _route(config: FrontConfig, match: dict[str, Any], cluster: str) -> dict[str, Any]:
    return {
        "match": match,
        "route": {
            "cluster": cluster,
            "timeout": f"{config.answer_within_s:g}s",
            # What no worker has read may go to another one.
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                # Together some fifteen seconds, in which a worker is replaced: each pause is a
                # random part of its interval.
                "num_retries": 120,
                "retry_back_off": {"base_interval": "0.02s", "max_interval": "0.25s"},
                # By default one further draw, which may give the same worker again.
                "host_selection_retry_max_attempts": 20,
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


def _who_may_ask(registered: Registered) -> dict[str, Any]:
    if not registered.with_tokens:
        return {}
    # Without any token, nobody is let in: no value of the header has a line break.
    allowed = [
        {"header": {"name": "authorization", "string_match": {"exact": f"Bearer {token}"}}}
        for token in registered.tokens or ("\n",)
    ]
    if registered.keys:
        allowed.append(has_key())
    one_of_them = {
        "permissions": [{"any": True}],
        "principals": [{"or_ids": {"ids": allowed}}],
    }
    return {
        AUTHORIZATION: {
            "@type": filter_type("http.rbac.v3.RBACPerRoute"),
            "rbac": {"rules": {"action": "ALLOW", "policies": {"token": one_of_them}}},
        }
    } | key_rules(registered.keys)
