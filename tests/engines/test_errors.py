from shipway.engines.errors import Refused, ServerError, UnsupportedByEngine, VersionNotFound


def test_what_an_engine_cannot_do_names_it_and_says_what_to_do():
    error = UnsupportedByEngine("TorchServe", "serves archives alone", "Make one.")
    assert str(error) == "TorchServe serves archives alone. Make one."
    assert isinstance(error, ServerError)


def test_a_refusal_keeps_its_status_in_other_words():
    refused = Refused("no", code=413, type="TooLarge").retold(VersionNotFound, "There is none.")
    assert (str(refused), refused.code, refused.type) == ("There is none.", 413, "TooLarge")


def test_a_refusal_of_our_own_has_the_status_of_its_kind():
    assert VersionNotFound("There is none.").code == 404
