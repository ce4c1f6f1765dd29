import pytest

from shipway.engines.ray.nodes import fit_of
from tests.conftest import retold


@pytest.fixture(scope="module")
def newer(tiny_table, tmp_path_factory):
    return retold(tiny_table, tmp_path_factory.mktemp("newer"), version="2.0")


def test_a_node_says_what_it_lacks_of_an_artifact(tiny_table, newer, tmp_path):
    fits = fit_of(str(tiny_table.path), tiny_table.digest)
    assert fits.problem is None
    assert "is another artifact on that node" in fit_of(str(tiny_table.path), newer.digest).problem
    assert "is not an artifact" in fit_of(str(tmp_path / "gone"), tiny_table.digest).problem
