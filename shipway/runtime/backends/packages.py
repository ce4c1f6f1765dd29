"""Which packages are installed here, asked without importing them."""

from importlib.metadata import PackageNotFoundError, version


def installed(package: str) -> str | None:
    """The version of a package or of its build for GPUs, None if neither is installed.

    onnxruntime-gpu is the same library as onnxruntime, with other execution providers.
    """
    return installed_exactly(package) or installed_exactly(f"{package}-gpu")


def installed_exactly(package: str) -> str | None:
    """The version of the package of exactly this name, without a local part such as `+cpu`; None
    if it is not installed."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return None
