"""What a `.mar` of this project holds. It is a zip file:

    entry.py              what TorchServe imports; it checks every file below before it runs one
    handler.py            the handler: a file of handlers/, or the project's own
    model-config.yaml     TorchServe's settings for the model
    artifact/             manifest, certificate, samples, the chosen program and the fallback,
                          and, where a recipe names them, files (a tokenizer) and plugins
    shipway/              the code that serves it
    MAR-INF/              TorchServe's manifest, made by torch-model-archiver
    SHA256SUMS            the digest of every file above

Archives from before the handlers had files of their own hold `handlers/` in place of `handler.py`,
with their own code in it. They are inspected and served like any other.
"""

import re

from shipway.artifact.bundle import MANIFEST
from shipway.artifact.digests import SUMS

ENTRY = "entry.py"
HANDLER = "handler.py"
TORCHSERVE_MANIFEST = "MAR-INF/MANIFEST.json"
TORCHSERVE_SETTINGS = "model-config.yaml"

# TorchServe puts the unpacked folder on PYTHONPATH before it starts the worker, so a
# sitecustomize.py or a torch.py in it would run before any check. Nothing but these may be there.
ALLOWED = re.compile(
    r"entry\.py|handler\.py|model-config\.yaml|SHA256SUMS|MAR-INF/MANIFEST\.json"
    r"|(?:handlers|shipway)/(?:[a-z_0-9]+/)*[a-z_0-9]+\.py"
    r"|artifact/(?:SHA256SUMS|(?:manifest|certificate)\.json|plugins/[a-z_0-9]+\.py"
    r"|(?:programs|files|samples)/[A-Za-z0-9_.-]+)"
)
REQUIRED = (
    SUMS,
    f"artifact/{SUMS}",
    f"artifact/{MANIFEST}",
    TORCHSERVE_MANIFEST,
    TORCHSERVE_SETTINGS,
)
SETTINGS = re.compile(
    r"(?:(?:batchSize|maxBatchDelay|responseTimeout|startupTimeout): [1-9][0-9]{0,8}\n)*"
)
"""All that model-config.yaml may say."""
RESPONSE_TIMEOUT_S = 60
"""The longest that a worker may take for a batch: TorchServe then kills it and starts another."""
STARTUP_TIMEOUT_S = 120
"""The longest that a worker may take to be ready: it imports a runtime, opens the program and runs
it once at several batch sizes."""

MAX_FILES = 1_000
MAX_UNPACKED_BYTES = 4 * 2**30
MAX_COMPRESSION = 200
"""Unpacked bytes per packed byte. Weights hardly shrink and text shrinks tenfold; a zip bomb
shrinks a thousandfold."""
