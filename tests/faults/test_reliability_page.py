"""docs/reliability.md says what is promised, fault by fault."""

from tests.faults.__main__ import DOCUMENT
from tests.faults.faults import FAULTS


def test_every_promise_is_in_the_document_as_it_is_declared():
    written = DOCUMENT.read_text()
    missing = [each.name for each in FAULTS if f"| {each.name} | {each.promise} |" not in written]
    assert missing == [], "`python -m tests.faults --write` puts them there"
