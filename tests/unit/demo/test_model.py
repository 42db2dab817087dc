"""The model is put together once, and only ever found whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sollold.demo.failure import DemoFailed
from sollold.demo.model import assemble, cache_dir
from sollold.demo.parts import ModelChunks

_TEXTS = (b"one" * 500_000, b"", b"two" * 400_000)


@pytest.fixture
def chunks(tmp_path: Path) -> ModelChunks:
    """A model in three pieces."""
    paths = tuple(tmp_path / f"part{index}" for index in range(len(_TEXTS)))
    for path, text in zip(paths, _TEXTS, strict=True):
        path.write_bytes(text)
    return ModelChunks("m.gguf", paths, hashlib.sha256(b"".join(_TEXTS)).hexdigest())


def _nothing(_part: float) -> None:
    return None


def test_the_pieces_become_one_file_with_progress(chunks: ModelChunks, tmp_path: Path) -> None:
    seen: list[float] = []

    path = assemble(chunks, tmp_path / "cache" / "demo", seen.append)

    assert path.read_bytes() == b"".join(_TEXTS)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 2
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_the_second_time_it_is_there(chunks: ModelChunks, tmp_path: Path) -> None:
    first = assemble(chunks, tmp_path / "cache", _nothing)
    seen: list[float] = []

    assert assemble(chunks, tmp_path / "cache", seen.append) == first
    assert not seen


def test_half_a_file_is_written_again(chunks: ModelChunks, tmp_path: Path) -> None:
    path = assemble(chunks, tmp_path / "cache", _nothing)
    path.write_bytes(b"one")
    path.with_name(path.name + ".new").write_bytes(b"left by one that was killed")

    assert assemble(chunks, tmp_path / "cache", _nothing).read_bytes() == b"".join(_TEXTS)


def test_other_bytes_are_not_taken(chunks: ModelChunks, tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match="do not make the model"):
        assemble(chunks._replace(sha256="0" * 64), tmp_path / "cache", _nothing)

    assert not list((tmp_path / "cache").iterdir())


def test_an_interruption_leaves_nothing(chunks: ModelChunks, tmp_path: Path) -> None:
    def interrupt(_part: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assemble(chunks, tmp_path / "cache", interrupt)

    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_written_is_told(chunks: ModelChunks, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")

    with pytest.raises(DemoFailed, match="XDG_CACHE_HOME"):
        assemble(chunks, tmp_path / "cache", _nothing)


def test_the_cache_is_where_the_person_has_it(tmp_path: Path) -> None:
    assert cache_dir({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "sollold" / "demo"
    assert cache_dir({"XDG_CACHE_HOME": "here"}) == Path.home() / ".cache" / "sollold" / "demo"
