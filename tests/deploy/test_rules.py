"""deploy/prometheus, as Prometheus' own promtool sees it."""

import re
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import yaml

from shipway.metrics.declared import METRICS, REQUEST, Metric
from tests.conftest import REPOSITORY
from tests.deploy import promql

FOLDER = REPOSITORY / "deploy/prometheus"
GROUPS = [
    group
    for file in ("rules.yml", "alerts.yml")
    for group in yaml.safe_load((FOLDER / file).read_text())["groups"]
]
RULES = list(chain.from_iterable(group["rules"] for group in GROUPS))
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}

EVERYWHERE = {"job", "instance"}
"""The labels that Prometheus adds."""
TORCHSERVES_OWN = {"Requests5XX": {"Level", "Hostname"}}
PROMETHEUS_OWN = {"up": set(), "ALERTS": {"alertname", "alertstate"}}


def series_of(metric: Metric) -> dict[str, set[str]]:
    """The series of a family, each with its labels."""
    labels = set(metric.labels)
    match metric.kind:
        case "histogram":
            return {
                f"{metric.name}_bucket": labels | {"le"},
                f"{metric.name}_count": labels,
                f"{metric.name}_sum": labels,
            }
        case "summary":
            return {f"{metric.name}_count": labels, f"{metric.name}_sum": labels}
    return {metric.name: labels}


def known_series() -> dict[str, set[str]]:
    """Every series that there can be, by its name, with the labels it may have."""
    declared = [series_of(metric) for metric in METRICS]
    found = {name: labels for each in declared for name, labels in each.items()}
    found |= TORCHSERVES_OWN | PROMETHEUS_OWN
    for name, expr in RECORDED.items():
        level = name.partition(":")[0]
        asked = [found[each] for each, _ in promql.selectors(expr)]
        found[name] = {level} - {"shipway"} or set().union(*asked)
    return found


def assert_known(expr: str) -> None:
    """Its metrics and labels are all such as somebody makes."""
    known = known_series()
    may_have = set(EVERYWHERE)
    for name, labels in promql.selectors(expr):
        assert name in known, f"nobody makes {name}"
        assert labels <= known[name] | EVERYWHERE, f"{name} has no {labels - known[name]}"
        may_have |= known[name]
    assert promql.grouped_by(expr) <= may_have, expr


def promtool(tools: Path, *words: str) -> str:
    done = subprocess.run(
        [tools / "promtool", *words], cwd=FOLDER, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_the_configuration_and_every_rule(tools):
    assert "SUCCESS: 2 rule files found" in promtool(tools, "check", "config", "prometheus.yml")


def test_each_alert_fires_when_it_should_and_only_then(tools):
    promtool(tools, "test", "rules", "tests.yml")
    tested = (FOLDER / "tests.yml").read_text()
    for alert in ALERTS:
        assert f'alertname="{alert}"}}' in tested or f'alertname="{alert}", ' in tested, alert


@pytest.mark.parametrize("expr", [rule["expr"] for rule in RULES])
def test_a_rule_asks_only_for_what_somebody_makes(expr):
    assert_known(expr)


def test_the_target_is_a_bound_of_the_buckets():
    [target] = re.findall(r"vector\((.+)\)", RECORDED["shipway:target:seconds"])
    assert f'le="{target}"' in RECORDED["shipway:slow_requests:total"]
    assert float(target) in REQUEST.buckets


def test_a_burn_rate_is_of_its_own_window():
    for name, expr in RECORDED.items():
        if window := re.search(r":rate(\d+\w)$", name):
            assert set(re.findall(r"\[(\w+)\]", expr)) <= {window[1]}, name
            assert set(re.findall(r":rate(\d+\w)", expr)) <= {window[1]}, name


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_urgent_it_is_and_where_to_read_on(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == alert.lower()
    assert f"\n### {alert}\n" in (REPOSITORY / page).read_text()
