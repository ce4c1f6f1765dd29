"""Whether a program computes in the precision that it claims."""

from shipway.artifact.certificate import Kernels

SHARE_NEEDED = 0.9
"""Of the heavy operations, in the precision that the program claims."""


def why_not_what_it_claims(kernels: Kernels, precision: str) -> str | None:
    """The reason to refuse a program whose heavy operations ran in another precision, or None."""
    heavy = sum(kernels.ran.values())
    if not heavy:
        # A model may have none; what claims to have made them cheaper must show them.
        if precision == "fp32":
            return None
        return f"{kernels.source} shows no convolution or matrix product at all"
    if kernels.ran.get(precision, 0) >= SHARE_NEEDED * heavy:
        return None
    ran = ", ".join(f"{count} in {name}" for name, count in sorted(kernels.ran.items()))
    return (
        f"it is called {precision}, but of its {heavy} convolutions and matrix products {ran} "
        f"({kernels.source})"
    )
