from http import HTTPStatus

from shipway.errors import ShipwayError
from shipway.payloads import errors
from shipway.serving.statuses import PHRASE_OF, STATUS_OF


def test_every_error_of_a_request_has_a_status():
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ShipwayError) and kind is not ShipwayError
    }
    assert kinds <= STATUS_OF.keys()


def test_every_status_has_the_phrase_that_http_gives_it():
    assert set(STATUS_OF.values()) <= PHRASE_OF.keys()
    standard = {status: phrase for status, phrase in PHRASE_OF.items() if status != 499}  # nginx's
    phrases = {status: HTTPStatus(status).phrase for status in standard}
    renamed = {413: "Content Too Large", 422: "Unprocessable Content"}  # RFC 9110
    assert phrases | renamed == standard
