from shipway.engines.protocol import natural_order


def test_versions_are_ordered_as_people_count():
    assert sorted(["1.10", "1.9", "2.0", "1.9rc1", "10"], key=natural_order) == [
        "1.9", "1.9rc1", "1.10", "2.0", "10",
    ]  # fmt: skip
