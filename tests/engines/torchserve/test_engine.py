"""TorchServe's engine against the real server."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shipway.archive.pack import pack
from shipway.artifact.bundle import Artifact
from shipway.engines.connection import connect
from shipway.engines.errors import Refused, UnsupportedByEngine
from shipway.engines.protocol import Deployable, Engine, SignaturePolicy
from shipway.engines.torchserve.engine import TorchServeEngine
from tests.conftest import retold
from tests.engines.conformance import check_life
from tests.servers import RunningServer


@pytest.fixture
def engine(server: RunningServer) -> Iterator[Engine]:
    with closing(connect(server.state)) as found:
        assert isinstance(found, TorchServeEngine)
        yield found


def deployable(mar: Path, version: str) -> Deployable:
    return Deployable(
        name="tiny-table",
        version=version,
        archive=mar,
        batch_size=4,
        max_batch_delay_ms=0,
        workers=1,
    )


def test_two_versions_live_their_life(
    engine: Engine, server: RunningServer, tiny_table: Artifact, tmp_path: Path
) -> None:
    second = retold(tiny_table, tmp_path / "second", version="2.0")
    mars = [pack(each, server.model_store) for each in (tiny_table, second)]
    try:
        check_life(engine, tiny_table, deployable(mars[0], "1.0"), deployable(mars[1], "2.0"))
    finally:
        for mar in mars:
            mar.unlink()
    assert [one.name for one in engine.versions()] == ["echo"]


def test_a_version_without_an_archive_cannot_be_served(
    engine: Engine, tiny_table: Artifact
) -> None:
    bare = Deployable(
        name="tiny-table",
        version="1.0",
        artifact=tiny_table.path,
        batch_size=1,
        max_batch_delay_ms=0,
        workers=1,
    )
    with pytest.raises(UnsupportedByEngine, match="TorchServe serves archives.*`shipway package"):
        engine.register(bare)


def test_an_archive_that_cannot_be_unpacked_leaves_nothing_in_the_temporary_folder(
    engine: Engine, server: RunningServer
) -> None:
    broken = server.model_store / "broken-1.0.mar"
    broken.write_bytes(b"no archive")
    left = Path(server.record.launch) / "models-1.download"
    left.mkdir()
    (left / "part").write_bytes(b"of an archive")
    try:
        with pytest.raises(Refused, match=r"TorchServe refused broken-1\.0\.mar"):
            engine.register(deployable(broken, "1.0"))
    finally:
        broken.unlink()
    assert not left.exists()


def test_a_configuration_without_keys_demands_no_signature(engine: Engine) -> None:
    assert engine.signature_policy() == SignaturePolicy(required=False, trusted_keys=())
