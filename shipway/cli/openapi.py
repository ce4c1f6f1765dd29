"""`shipway openapi`."""

from shipway.cli.options import ArtifactArgument
from shipway.cli.output import print_json


def openapi(artifact: ArtifactArgument) -> None:
    """Print the OpenAPI description of a model's inference API, as JSON."""
    # httpx and pydantic take a second to import.
    from shipway.artifact.bundle import open_artifact
    from shipway.engines.torchserve.refusals import ANSWERED_BY_SERVER
    from shipway.serving.openapi import describe

    print_json(describe(open_artifact(artifact).manifest, ANSWERED_BY_SERVER))
