"""Limits that the help of a command names: this file imports nothing, so that help is fast."""

DEFAULT_BUDGET = 1.0
"""The points that a program may lose, for recipes that set no budget."""
LONGEST_LATENCY_S = 120
"""The longest latency that a load test records; none of its clients waits longer for an answer."""
