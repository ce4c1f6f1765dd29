"""Fails unless the demo's answers over HTTP and gRPC are equal and name a house cat."""

import json
import sys
from pathlib import Path

HOUSE_CATS = {281: "tabby", 282: "tiger cat", 285: "Egyptian cat"}
MAX_MAR_MB = 40

work = Path(sys.argv[1])
answers = [
    json.loads((work / f"{protocol}.json").read_text())["predictions"]
    for protocol in ("http", "grpc")
]
for answer in answers:
    if answer[0]["class_id"] not in HOUSE_CATS:
        sys.exit(f"The photo shows a cat, and the answer is {answer[0]}.")
for over_http, over_grpc in zip(*answers, strict=True):
    if abs(over_http["probability"] - over_grpc["probability"]) > 1e-5:
        sys.exit(f"HTTP and gRPC give different answers: {over_http} and {over_grpc}.")
(mar,) = (work / "model_store").glob("*.mar")
if mar.stat().st_size > MAX_MAR_MB * 1e6:
    sys.exit(f"{mar.name} is larger than {MAX_MAR_MB} MB.")
manifest = json.loads((work / "artifacts/efficientnet_lite0-1.0/manifest.json").read_text())
first = answers[0][0]
print(
    f"\nHTTP and gRPC give the same answer: {first['label']}, class {first['class_id']}; "
    f"{mar.name} is {mar.stat().st_size / 1e6:.1f} MB and runs {manifest['chosen']}."
)
