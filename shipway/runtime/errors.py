"""What can go wrong between an artifact and its outputs."""

from shipway.errors import ShipwayError


class RuntimeProblem(ShipwayError):
    """The base of everything below."""


class NoProgramFits(RuntimeProblem):
    def __init__(self, name: str, reasons: dict[str, str]) -> None:
        listed = "; ".join(f"{program}: {reason}" for program, reason in reasons.items())
        super().__init__(f"No program of {name} runs on this host. {listed}.")


class BadImage(RuntimeProblem):
    """The bytes are an image of a kind that is accepted, but a broken one."""


class NotAnImage(RuntimeProblem):
    """The bytes are no image of a kind that is accepted."""


class ImageTooLarge(RuntimeProblem):
    """The image has more pixels than one request may cost."""
