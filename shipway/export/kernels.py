"""Whether a program computes in the precision that it claims."""

from shipway.artifact.certificate import Kernels
from shipway.export.techniques.base import SHARE_NEEDED


def why_not_what_it_claims(kernels: Kernels, precision: str) -> str | None:
    """The reason to refuse a program whose heavy operations ran in another precision, or None."""
    heavy = sum(kernels.ran.values())
    if not heavy:
        # A model may have none, but then a lower precision has nothing to speed up.
        if precision == "fp32":
            return None
        return f"{kernels.source} shows no convolution or matrix product at all"
    if kernels.ran.get(precision, 0) >= SHARE_NEEDED * heavy:
        return None
    ran = ", ".join(f"{count} ran in {name}" for name, count in sorted(kernels.ran.items()))
    return (
        f"it claims {precision}, but of its {heavy} convolutions and matrix products, {ran} "
        f"({kernels.source})"
    )
