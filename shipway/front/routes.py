"""Which requests go to which version's workers, as Envoy's routes (xDS v3)."""

from typing import Any

from shipway.front.grpc_filters import (
    BRIDGE,
    HEALTH,
    MODEL_HEADER,
    OIP_SERVICE,
    ROUTED_CALLS,
    STREAM_PREDICTIONS,
    STREAMS,
    TORCHSERVES_OIP_SERVICE,
    VERSION_HEADER,
    without_bridge,
)
from shipway.front.registered import Registered
from shipway.front.resources import (
    AUTHORIZATION,
    TORCHSERVE,
    TORCHSERVE_GRPC,
    FrontConfig,
    cluster_name,
)
from shipway.front.types import TYPES, filter_type


def routes(config: FrontConfig, registered: Registered) -> list[dict[str, Any]]:
    """Which path goes to which version's workers. Everything else goes to TorchServe."""
    found = []
    for name, version, cluster in _targets(registered):
        v2, paths = _paths(name, version)
        paths.append(v2)
        if not version:  # KServe's first protocol knows no versions
            paths += [f"/v1/models/{name}", f"/v1/models/{name}:predict"]
        found += [_route(config, {"path": path}, cluster) for path in paths]
    for name, version in _withdrawn(registered):
        found += [_unavailable({"path": path}) for path in _paths(name, version)[1]]
    rest = _with_token(_route(config, {"prefix": "/"}, TORCHSERVE), registered)
    return [_routes_of("http", [*found, rest], registered)]


def grpc_routes(config: FrontConfig, registered: Registered) -> list[dict[str, Any]]:
    """The same for calls, by the model and version that their messages name."""
    found: list[dict[str, Any]] = []
    for name, version, cluster in _targets(registered):
        named = _named(name, version)
        found += [
            _route(config, {"path": path, "headers": named}, cluster) for path in ROUTED_CALLS
        ]
        found.append(_unimplemented({"path": STREAM_PREDICTIONS, "headers": named}))
    for name, version in _withdrawn(registered):
        named = _named(name, version)
        found += [_unavailable({"path": path, "headers": named}) for path in ROUTED_CALLS]
    for _, _, cluster in _targets(registered)[:1]:  # any worker can tell that the server lives
        health = {"path": HEALTH, "headers": [_header(MODEL_HEADER, "")]}
        found.append(_route(config, health, cluster))
    found += [_unimplemented({"path": path}) for path in STREAMS]
    # TorchServe has the protocol under a name of its own.
    renamed = _to_torchserve_grpc(config, {"prefix": f"{OIP_SERVICE}/"}, registered)
    renamed["route"]["prefix_rewrite"] = f"{TORCHSERVES_OIP_SERVICE}/"
    rest = _to_torchserve_grpc(config, {"prefix": "/"}, registered)
    return [_routes_of("grpc", [*found, renamed, rest], registered)]


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


def _withdrawn(registered: Registered) -> list[tuple[str, str | None]]:
    """The names and versions that get no more requests; no version stands for the default."""
    defaults: list[tuple[str, str | None]] = [
        (name, None)
        for name, version in sorted(registered.defaults.items())
        if (name, version) in registered.withdrawn
    ]
    return [*sorted(registered.withdrawn), *defaults]


def _unavailable(match: dict[str, Any]) -> dict[str, Any]:
    """Not TorchServe: it would never answer what waits for a version when that is unregistered."""
    return _answered(
        match, 503, "This version is being unregistered. Send requests to another one."
    )


def _routes_of(name: str, found: list[dict[str, Any]], registered: Registered) -> dict[str, Any]:
    everything = {
        "name": "all",
        "domains": ["*"],
        "routes": found,
        "typed_per_filter_config": _tokens(registered),
    }
    return {
        "@type": f"{TYPES}.config.route.v3.RouteConfiguration",
        "name": name,
        "virtual_hosts": [everything],
    }


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


def _answered(match: dict[str, Any], status: int, text: str) -> dict[str, Any]:
    """A route that Envoy answers itself."""
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": text}},
        "typed_per_filter_config": {BRIDGE: without_bridge()},
    }


def _paths(name: str, version: str | None) -> tuple[str, list[str]]:
    """The path of a model's metadata, and those that its workers alone can answer."""
    v2 = f"/v2/models/{name}" + (f"/versions/{version}" if version else "")
    native = f"/predictions/{name}" + (f"/{version}" if version else "")
    return v2, [native, f"{v2}/infer", f"{v2}/ready"]


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
                "num_retries": 3,
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


def _tokens(registered: Registered) -> dict[str, Any]:
    if not registered.with_tokens:
        return {}
    # Without any token, nobody is let in: no value of the header has a line break.
    allowed = [
        {"header": {"name": "authorization", "string_match": {"exact": f"Bearer {token}"}}}
        for token in registered.tokens or ("\n",)
    ]
    one_of_them = {
        "permissions": [{"any": True}],
        "principals": [{"or_ids": {"ids": allowed}}],
    }
    return {
        AUTHORIZATION: {
            "@type": filter_type("http.rbac.v3.RBACPerRoute"),
            "rbac": {"rules": {"action": "ALLOW", "policies": {"token": one_of_them}}},
        }
    }
