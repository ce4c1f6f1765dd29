"""What the servers have to answer before they are measured."""

from collections.abc import Sequence

from shipway.artifact.bundle import Artifact
from shipway.payloads.images import decode_image
from shipway.recipe import ImagePreprocessing
from shipway.runtime.model import Model


def classes_of(artifact: Artifact, photos: Sequence[bytes]) -> list[int]:
    """The class that the artifact's program puts first for each photo."""
    spec = artifact.manifest.preprocessing
    assert isinstance(spec, ImagePreprocessing)
    results = Model(artifact).run([(decode_image(photo, spec),) for photo in photos])
    return [int(each.outputs[0].argmax()) for each in results]
