"""docs/reliability.md says what is promised, fault by fault."""

import pytest

from tests.faults.__main__ import DOCUMENT, END, faults_of


@pytest.mark.parametrize("front", [False, True], ids=["front=off", "front=on"])
def test_every_promise_is_in_the_document_as_it_is_declared(front):
    _, _, rest = DOCUMENT.read_text().partition(f"front={'on' if front else 'off'} -->\n")
    table, end, _ = rest.partition(END)
    assert end
    missing = [
        each.name for each in faults_of(front) if f"| {each.name} | {each.promise} |" not in table
    ]
    assert missing == [], "`python -m tests.faults --write` puts them there"
