"""The names of Envoy's types."""

TYPES = "type.googleapis.com/envoy"


def filter_type(name: str) -> str:
    """The type of a filter's configuration."""
    return f"{TYPES}.extensions.filters.{name}"
