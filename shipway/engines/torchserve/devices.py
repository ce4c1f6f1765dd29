"""The GPUs that a server may use, in the form that TorchServe can read."""

import re
from collections.abc import Mapping

from shipway.engines.errors import LaunchError
from shipway.runtime.host import NAMED_DEVICES, VISIBLE_DEVICES, visible_devices

_NONE = ("", "-1", "none", "void", "nodevfiles")
"""Values that people and schedulers use for no GPU, or no further GPU."""


def for_torchserve(environment: Mapping[str, str]) -> dict[str, str]:
    """Additional environment variables for TorchServe, so that each worker gets its own GPU.

    TorchServe exits if CUDA_VISIBLE_DEVICES holds anything but numbers and commas, and it only
    counts them. So the names of GPUs and MIG instances reach the workers in NAMED_DEVICES. Raises
    LaunchError if an entry names no GPU.
    """
    value = environment.get(VISIBLE_DEVICES, "")
    if not value or re.fullmatch(r"\d+(,\d+)*", value):
        return {}
    devices = visible_devices(environment) or ()
    unknown = [entry.strip() for entry in value.split(",")[len(devices) :]]
    if unknown and unknown[0].lower() not in _NONE:
        raise LaunchError(
            f"{VISIBLE_DEVICES}={value}: {unknown[0]!r} is not a GPU of this host. Use indexes "
            "(0,1) or names from `nvidia-smi -L` (GPU-…, MIG-…), separated by commas; -1 for none."
        )
    if not devices:
        return {VISIBLE_DEVICES: ""}
    return {
        VISIBLE_DEVICES: ",".join(map(str, range(len(devices)))),
        NAMED_DEVICES: ",".join(devices),
    }
