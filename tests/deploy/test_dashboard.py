"""The Grafana dashboard: generated, whole, and asking only for metrics that there are."""

import json

import pytest
import yaml

from benchmarks.monitoring import dashboard_queries
from deploy.grafana import dashboard
from tests.conftest import REPOSITORY
from tests.deploy.test_rules import assert_known

DEPLOY = REPOSITORY / "deploy"
COMMITTED = json.loads((DEPLOY / "grafana/shipway.json").read_text())
QUERIES = dashboard_queries(over="1m")


def test_the_committed_dashboard_is_what_its_source_makes():
    assert dashboard.dashboard() == COMMITTED, "python -m deploy.grafana.dashboard"


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_asks_only_for_what_somebody_makes(name):
    assert_known(QUERIES[name])


def test_every_query_has_a_name_of_its_own():
    targets = [target for panel in COMMITTED["panels"] for target in panel.get("targets", [])]
    assert len(QUERIES) == len(targets) > 40


def test_panels_lie_on_the_grid_and_not_on_each_other():
    taken = set()
    for panel in COMMITTED["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= dashboard.GRID_COLUMNS
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))


def test_grafana_knows_how_often_prometheus_scrapes():
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    provisioned = DEPLOY / "grafana/provisioning/datasources/prometheus.yml"
    [datasource] = yaml.safe_load(provisioned.read_text())["datasources"]
    assert datasource["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
