"""The placeholder's handler, loaded from its folder as TorchServe loads it."""

import runpy
from pathlib import Path
from types import SimpleNamespace

from shipway.engines.torchserve import no_default_handler
from shipway.engines.torchserve.no_default import write_placeholder


class Context(SimpleNamespace):
    def __init__(self, folder: Path) -> None:
        super().__init__(system_properties={"model_dir": str(folder)}, statuses=[])

    def set_response_status(self, code: int, phrase: str, index: int) -> None:
        self.statuses.append((code, phrase, index))


def test_every_request_gets_503_with_the_reason_of_the_moment(tmp_path: Path) -> None:
    write_placeholder(tmp_path, "echo", "It is missing.")
    name = Path(no_default_handler.__file__).name
    handler = runpy.run_path(str(tmp_path / name))["NoDefaultHandler"]()
    context = Context(tmp_path)
    handler.initialize(context)
    error = {"code": 503, "type": "NoDefaultVersion", "message": "It is missing."}
    assert handler.handle([b"", b""], context) == [error, error]
    assert context.statuses == [(503, "Service Unavailable", 0), (503, "Service Unavailable", 1)]
    write_placeholder(tmp_path, "echo", "It is still missing.")
    assert handler.handle([b""], context)[0]["message"] == "It is still missing."
