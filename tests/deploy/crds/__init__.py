"""The schemas of kinds that are not Kubernetes' own, as far as deploy/kubernetes uses them.

Each JSON file is cut out of the CustomResourceDefinition that the project of its kind publishes:
of every object that a manifest here goes through, all the fields; of what no manifest goes through,
nothing. To cut one anew:

    python -c "from tests.deploy.crds import main; main()" CRD.yaml VERSION < MANIFEST > KIND.json
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
KEPT = ("type", "required", "enum", "format", "pattern", "minimum", "maximum", "anyOf")


def schema_of(kind: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{kind}.json").read_text())


def cut(schema: dict[str, Any], used: Any) -> dict[str, Any]:
    """What of a schema says something of `used`; fields that are not in it may not be there."""
    kept = {key: schema[key] for key in KEPT if key in schema}
    if isinstance(used, dict) and "properties" in schema:
        kept["properties"] = {
            name: cut(each, used[name]) if name in used else {}
            for name, each in schema["properties"].items()
        }
        kept["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif isinstance(used, dict) and isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = cut(schema["additionalProperties"], None)
    elif isinstance(used, list) and "items" in schema:
        # A list's items have one schema: cut it by all of them together.
        together: dict[str, Any] = {}
        for each in used:
            together |= each if isinstance(each, dict) else {}
        kept["items"] = cut(schema["items"], together or None)
    return kept


def main() -> None:
    definition = yaml.safe_load(Path(sys.argv[1]).read_text())
    [version] = [each for each in definition["spec"]["versions"] if each["name"] == sys.argv[2]]
    whole = version["schema"]["openAPIV3Schema"]
    whole["properties"]["metadata"] = {"type": "object"}
    print(json.dumps(cut(whole, yaml.safe_load(sys.stdin)), indent=1))
