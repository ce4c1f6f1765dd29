"""Requests of other sites' pages (CORS, fetch.spec.whatwg.org), as Envoy's configuration."""

from dataclasses import dataclass
from typing import Any

from shipway.front.types import filter_type

FILTER = "envoy.filters.http.cors"
EXPOSED = (
    *("shipway-version", "shipway-artifact", "shipway-program", "shipway-batch"),
    *("server-timing", "x-request-id", "retry-after"),
)
"""The headers of answers that pages may read."""
KEPT_FOR_S = 600
"""How long a browser may keep the answer to a preflight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """Who may ask from a web page, and how."""

    origin: str
    """SCHEME://HOST[:PORT], or * for any."""
    methods: str
    """Separated by commas."""
    headers: str
    """Of requests. Separated by commas."""


def cors_filter() -> dict[str, Any]:
    """Answers preflights, before anybody asks for a token: browsers send none with them."""
    return {"name": FILTER, "typed_config": {"@type": filter_type("http.cors.v3.Cors")}}


def cors_policy(cors: Cors | None) -> dict[str, Any]:
    """What the filter does for a virtual host, by the filter's name; nothing without `cors`."""
    if cors is None:
        return {}
    anyone = {"safe_regex": {"regex": ".*"}}
    return {
        FILTER: {
            "@type": filter_type("http.cors.v3.CorsPolicy"),
            "allow_origin_string_match": [anyone if cors.origin == "*" else {"exact": cors.origin}],
            "allow_methods": cors.methods,
            "allow_headers": cors.headers,
            "expose_headers": ", ".join(EXPOSED),
            "max_age": str(KEPT_FOR_S),
        }
    }
