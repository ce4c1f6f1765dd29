"""A plain Locust file: one model over HTTP, with the demo's photos.

    make serve
    locust -f benchmarks/locustfile.py --host http://127.0.0.1:8080

opens Locust's web page on port 8089; `--headless -u 4 -r 4 -t 10s` does without. Environment:

- MODEL: the model's name, efficientnet_lite0 if it is not set.
- TOKEN: the server's inference token; if it is not set, that of .shipway/key_file.json.
- INPUT: a file to send instead of the photos.
"""

import json
import mimetypes
import os
from itertools import cycle
from pathlib import Path

import gevent
from locust import FastHttpUser, task

from shipway.tasks.demo_inputs import jpegs

MODEL = os.environ.get("MODEL", "efficientnet_lite0")
KEY_FILE = Path(".shipway/key_file.json")


def headers() -> dict[str, str]:
    """The token, unless the server needs none."""
    token = os.environ.get("TOKEN")
    if token is None and KEY_FILE.exists():
        token = json.loads(KEY_FILE.read_text())["inference"]["key"]
    return {"authorization": f"Bearer {token}"} if token else {}


def inputs() -> tuple[str, list[bytes]]:
    """The content type and the bodies to send in turn."""
    if path := os.environ.get("INPUT"):
        content_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        return content_type, [Path(path).read_bytes()]
    photos = jpegs()
    if not photos:
        raise SystemExit("The demo's photos are not installed. Name a file to send with INPUT=…")
    return "image/jpeg", photos


CONTENT_TYPE, BODIES = inputs()
# Locust counts --run-time from the last time that its event loop ran, which was before the imports.
gevent.get_hub().loop.update_now()


class Client(FastHttpUser):
    """Sends its next request when the last one is answered."""

    def on_start(self) -> None:
        """Takes the token and the first input."""
        self.headers = {"content-type": CONTENT_TYPE, **headers()}
        self.bodies = cycle(BODIES)

    @task
    def predict(self) -> None:
        """One prediction."""
        self.client.post(f"/predictions/{MODEL}", data=next(self.bodies), headers=self.headers)
