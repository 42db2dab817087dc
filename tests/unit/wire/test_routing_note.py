"""The seeds' routing object, added to a passing answer."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sollold.wire.routing_note import RoutingNote

ANSWERS = (b'{"a":1}', b'{"a":{"b":2}}\n', b'{"a":1}\n{"done":true,"n":{}}\n')


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 40), max_size=6))
def test_any_split_gives_the_same_answer(answer: bytes, cuts: list[int]) -> None:
    note = RoutingNote(lambda: b'{"host":"x"}')
    places = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    out = b"".join(note.feed(answer[a:b]) for a, b in pairwise(places)) + note.finish()
    lines = out.decode().splitlines()
    assert json.loads(lines[-1])["_sollol_routing"] == {"host": "x"}
    assert all("_sollol_routing" not in line for line in lines[:-1])
    assert out.endswith(b"\n") == answer.endswith(b"\n")


def test_an_answer_that_does_not_end_in_an_object_is_left_alone() -> None:
    note = RoutingNote(lambda: b"{}")
    assert note.feed(b'{"a":1}') + note.feed(b" cut") + note.finish() == b'{"a":1} cut'
