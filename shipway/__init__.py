"""Shipway: from a trained PyTorch state_dict to a measured, versioned model in production."""

import os
import sys

__version__ = "0.1.0"

# Nothing that runs here tells others what it is used for. Both libraries look when they are
# imported: ONNX Runtime 1.32 keeps a database of events with an id of the machine, and uploads it
# (`disable_telemetry_events` comes too late); OpenVINO reports each conversion, unless its package
# for that is missing.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
