"""The GPUs that a server is given, in the one form that TorchServe can read."""

import re
from collections.abc import Mapping

from shipway.engines.errors import LaunchError
from shipway.runtime.host import NAMED_DEVICES, VISIBLE_DEVICES, visible_devices

_NONE = ("", "-1", "none", "void", "nodevfiles")
"""What people and schedulers write to say that no GPU is visible, or no further one."""


def for_torchserve(environment: Mapping[str, str]) -> dict[str, str]:
    """What TorchServe's environment needs besides, so that each worker gets a GPU of its own.

    TorchServe ends at once if CUDA_VISIBLE_DEVICES holds anything but numbers and commas, and only
    counts them. Names of GPUs and MIG instances therefore travel to the workers in a variable of
    ours. Raises LaunchError for what names no GPU.
    """
    value = environment.get(VISIBLE_DEVICES, "")
    if not value or re.fullmatch(r"\d+(,\d+)*", value):
        return {}
    devices = visible_devices(environment) or ()
    beyond = [each.strip() for each in value.split(",")[len(devices) :]]
    if beyond and beyond[0].lower() not in _NONE:
        raise LaunchError(
            f"{VISIBLE_DEVICES}={value}: {beyond[0]!r} names no GPU. Write indexes (0,1) or what "
            "`nvidia-smi -L` lists (GPU-…, MIG-…), separated by commas; -1 for none."
        )
    if not devices:
        return {VISIBLE_DEVICES: ""}
    return {
        VISIBLE_DEVICES: ",".join(map(str, range(len(devices)))),
        NAMED_DEVICES: ",".join(devices),
    }
