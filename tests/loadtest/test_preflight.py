"""Checks before a load, against real HTTP servers. tests/cli/test_bench.py has TorchServe's."""

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shipway.engines.ports import free_ports
from shipway.loadtest import inputs, preflight
from shipway.loadtest.errors import NoInput, NotReady
from shipway.loadtest.load_test import Input, Target

HELLO = (Input(name="hello.txt", content_type="text/plain", body=b"hello"),)


@contextmanager
def answering(status: int, body: bytes = b"{}", accepts: str = ""):
    """A model behind HTTP that answers with this status; 415 for other content types."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            sent = self.headers["content-type"]
            self.send_response(status if accepts in ("", sent) else 415)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Target(url=f"http://127.0.0.1:{server.server_port}/predictions/m/2.0")
        server.shutdown()
        thread.join()


def test_a_model_that_answers_is_ready_with_what_its_url_names():
    with answering(200) as target:
        ready = preflight.model_at(target, {"a": "b"}, HELLO)
    assert (ready.subject.model, ready.subject.version) == ("m", "2.0")
    assert ready.inputs == HELLO and ready.headers == {"a": "b"}


def test_without_inputs_photos_are_tried_and_then_sentences():
    with answering(200, accepts="text/plain") as target:
        assert preflight.model_at(target, {}).inputs[0].content_type == "text/plain"
    with answering(200) as target:
        assert preflight.model_at(target, {}).inputs[0].content_type == "image/jpeg"


def test_without_inputs_and_examples_files_are_asked_for(monkeypatch):
    monkeypatch.setattr(inputs, "photos", tuple)
    monkeypatch.setattr(inputs, "texts", tuple)
    with answering(200) as target, pytest.raises(NoInput, match="Give files to send with --input"):
        preflight.model_at(target, {})


REFUSED = b'{"code": %d, "type": "%s", "message": "because"}'


@pytest.mark.parametrize(
    ("status", "kind", "error", "said"),
    [
        (415, b"NotAnImage", NoInput, "refuses hello.txt .5 bytes, text/plain.: 415 NotAnImage"),
        (404, b"ModelNotFoundException", NotReady, "has no model m 2.0. List the models"),
        (404, b"Other", NotReady, "was not found .*/predictions/NAME"),
        (400, b"InvalidKeyException", NotReady, "refuses the token. Give .* with --token"),
        (503, b"Other", NotReady, "returned an error for hello.txt: 503 Other"),
    ],
)
def test_a_refusal_says_what_to_do(status, kind, error, said):
    with (
        answering(status, REFUSED % (status, kind)) as target,
        pytest.raises(error, match=said),
    ):
        preflight.model_at(target, {}, HELLO)


def test_an_address_where_nothing_listens_is_named():
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(NotReady, match=f"Nothing answers at {address} .*is its http port"):
        preflight.model_at(Target(url=f"http://{address}/predictions/m"), {}, HELLO)


def test_a_server_of_another_protocol_is_told_apart():
    def babble() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(b"220 mail ready\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=babble)
        thread.start()
        target = Target(url=f"http://127.0.0.1:{listener.getsockname()[1]}/predictions/m")
        with pytest.raises(NotReady, match="did not send a valid HTTP response"):
            preflight.model_at(target, {}, HELLO)
        thread.join()
