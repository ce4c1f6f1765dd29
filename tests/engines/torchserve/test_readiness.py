import pytest

from shipway.engines.errors import LaunchError
from tests.engines.torchserve.test_launch import start


def test_a_java_that_does_not_start_is_quoted_and_leaves_nothing(tmp_path):
    with pytest.raises(LaunchError, match=r"before it was ready[\s\S]*NoSuchFlag"):
        start(tmp_path, vmargs="-XX:NoSuchFlag")
    assert sorted(path.name for path in (tmp_path / ".shipway").iterdir()) == ["logs"]
