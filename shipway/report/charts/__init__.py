"""Charts for the export report and the load report: functions that return one SVG each."""

from shipway.report.charts.bars import Bar, bars
from shipway.report.charts.load import (
    Curve,
    Spot,
    Stretch,
    by_percentile,
    over_time,
    throughput,
)
from shipway.report.charts.pareto import Dot, pareto
from shipway.report.charts.sizes import SizePoint, by_size
from shipway.report.charts.svg import Kind, symbol

__all__ = [
    "Bar",
    "Curve",
    "Dot",
    "Kind",
    "SizePoint",
    "Spot",
    "Stretch",
    "bars",
    "by_percentile",
    "by_size",
    "over_time",
    "pareto",
    "symbol",
    "throughput",
]
