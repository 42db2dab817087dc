"""What is kept of a stream depends on its bytes, never on how they were split."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sollold.wire.clip import END_BYTES, LINE_BYTES, Clip, LastLines, Piece, clipped

_LINES = st.lists(
    st.sampled_from(
        [
            b"",
            b" \r",
            b"data: a",
            b"data: [DONE]",
            b": ping",
            b"x" * LINE_BYTES,
            b"data:" + b"y" * LINE_BYTES,
            b"data:" + bytes(range(33, 127)) * 400,
        ]
    ),
    max_size=8,
)


def _parts(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


_CUTS = st.lists(st.integers(0, 10**6), max_size=12)


@given(st.binary(max_size=40), st.integers(0, 3 * END_BYTES), _CUTS, st.integers(1, LINE_BYTES))
def test_a_clip_keeps_all_or_the_two_ends(
    seed: bytes, size: int, cuts: list[int], limit: int
) -> None:
    data = seed + bytes(index % 251 for index in range(size))
    clip = Clip(max(limit, END_BYTES))
    for part in _parts(data, cuts):
        clip.add(part)
    if len(data) <= max(limit, END_BYTES):
        assert clip.piece() == Piece(data)
    else:
        assert clip.piece() == Piece(data[:END_BYTES], data[-END_BYTES:])


def test_a_line_is_clipped_as_a_clip_would() -> None:
    for size in (0, LINE_BYTES, LINE_BYTES + 1, 100_000):
        line = bytes(index % 251 for index in range(size))
        clip = Clip(LINE_BYTES)
        clip.add(line)
        assert clipped(line) == clip.piece()
        assert clipped(line).is_whole == (size <= LINE_BYTES)


@given(_LINES, st.booleans(), _CUTS, st.integers(1, 4), st.sampled_from([b"", b"data:"]))
def test_the_last_lines_are_those_of_the_whole(
    lines: list[bytes], is_cut: bool, cuts: list[int], keep: int, prefix: bytes
) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    rest = b""
    if is_cut and lines:
        rest, stream = lines[-1], stream[: -len(lines[-1]) - 1] + lines[-1]
        lines = lines[:-1]
    watched = LastLines(keep, prefix=prefix)
    for part in _parts(stream, cuts):
        watched.add(part)
    matter = [line for line in lines if line.strip() and line.startswith(prefix)]
    assert watched.pieces() == ([clipped(line) for line in matter[-keep:]], clipped(rest))
    assert watched.pieces() == watched.pieces()
