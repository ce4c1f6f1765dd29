"""What can go wrong between an artifact and its outputs. Errors of a device are in
`shipway.runtime.backends.errors`."""

from pathlib import Path

from shipway.runtime.backends.errors import RuntimeProblem


class NoProgramFits(RuntimeProblem):
    """This host runs neither the chosen program nor the fallback."""

    def __init__(self, name: str, reasons: dict[str, str]) -> None:
        listed = "; ".join(f"{program}: {reason}" for program, reason in reasons.items())
        super().__init__(
            f"No program of {name} runs on this host. {listed}. Export the model on a host like "
            "this one, or install what is missing."
        )


class UnknownFormat(RuntimeProblem):
    """A program in a format that its runtime backend does not open."""

    def __init__(self, path: Path, format: str, runtime: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"{path} has the format {format!r}, which the runtime backend {runtime!r} does not "
            f"open. It opens {', '.join(known)}. Use the version of Shipway, or the plugin, that "
            "exported it."
        )


class BrokenProgram(RuntimeProblem):
    """A file that its runtime cannot open."""

    def __init__(self, path: Path, runtime: str, error: Exception) -> None:
        message = " ".join(str(error).split())
        super().__init__(
            f"{path} cannot be opened by {runtime}: {message[:500]}. Export the model again."
        )


class WrongRows(RuntimeProblem):
    """A run gave a number of output rows that differs from its input rows, so that no output can
    be matched to its row."""

    def __init__(self, found: list[int], expected: int) -> None:
        super().__init__(
            f"The program returned {found} output rows for {expected} input rows. "
            "Export a module that returns one output row for each input row."
        )
