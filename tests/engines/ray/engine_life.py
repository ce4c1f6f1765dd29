"""Ray's engine on the cluster at ADDRESS, which must serve nothing: run by test_engine.py.

    python -m tests.engines.ray.engine_life ADDRESS FIRST SECOND

FIRST and SECOND are artifacts of two versions of one model. A process of its own, since Ray reads
how it authenticates from the environment when it is imported.
"""

import sys
from pathlib import Path

import pytest

from shipway.artifact.bundle import open_artifact
from shipway.engines.errors import UnsupportedByEngine
from shipway.engines.ports import free_ports
from shipway.engines.protocol import Deployable, SignaturePolicy
from shipway.engines.ray.cluster import cluster
from shipway.engines.ray.engine import RayEngine
from shipway.engines.ray.errors import OtherArtifact
from tests.engines.conformance import check_life


def deployable(version: str, *, artifact: Path | None = None, archive: Path | None = None):
    return Deployable(
        name="tiny-table",
        version=version,
        artifact=artifact,
        archive=archive,
        batch_size=4,
        max_batch_delay_ms=0,
        workers=1,
    )


def main(address: str, first: Path, second: Path) -> None:
    with cluster(address) as opened:
        engine = RayEngine(opened, port=free_ports(1)[0])
        with pytest.raises(UnsupportedByEngine, match="needs artifacts, not archives"):
            engine.register(deployable("1.0", archive=Path("tiny-table-1.0.mar")))
        with pytest.raises(UnsupportedByEngine, match="metrics from each node"):
            engine.metrics()
        with pytest.raises(OtherArtifact, match=r"expected tiny-table 3\.0"):
            engine.register(deployable("3.0", artifact=first))
        assert engine.signature_policy() == SignaturePolicy()
        assert engine.versions() == []
        check_life(
            engine,
            open_artifact(first),
            deployable("1.0", artifact=first),
            deployable("2.0", artifact=second),
        )
        assert engine.versions() == []
    print("done")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
