from __future__ import annotations

import pytest

from sollold.ctl.failure import Exit, Failure
from sollold.ctl.names import resolve
from sollold.words.names import natural

NAMES = ["gpu-1", "gpu-2", "gpu-10", "pi-5", "Mac-mini"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("gpu-1", "gpu-1"),
        ("pi", "pi-5"),
        ("mac", "Mac-mini"),
        ("GPU-2", "gpu-2"),
        ("gpu-10", "gpu-10"),
    ],
)
def test_exact_names_and_unique_prefixes_are_found(wanted: str, found: str) -> None:
    assert resolve(wanted, NAMES, "node") == found


def test_an_ambiguous_prefix_lists_the_candidates() -> None:
    with pytest.raises(Failure, match="more than one node: gpu-1, gpu-10, gpu-2") as refused:
        resolve("gpu", NAMES, "node")
    assert (refused.value.exit_code, refused.value.code) == (Exit.NOT_FOUND, "node_ambiguous")


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(Failure, match="no node 'gpux-2'") as refused:
        resolve("gpux-2", NAMES, "node")
    assert refused.value.exit_code == Exit.NOT_FOUND
    assert refused.value.hints == (("did you mean", "gpu-2"),)


@pytest.mark.parametrize("wanted", ["zzz", ""])
def test_a_name_near_to_nothing_points_to_the_list(wanted: str) -> None:
    with pytest.raises(Failure) as refused:
        resolve(wanted, NAMES, "node")
    assert refused.value.hints == (("all nodes", "sollolctl nodes"),)


def test_hostile_names_are_made_visible_in_messages() -> None:
    with pytest.raises(Failure) as refused:
        resolve("gpu", ["gpu\x1b[2J", "gpu\u202e"], "node")
    assert "\\x1b[2J" in refused.value.message
    assert "\x1b" not in refused.value.message


def test_numbers_in_names_sort_as_numbers() -> None:
    assert sorted(NAMES, key=natural) == ["gpu-1", "gpu-2", "gpu-10", "Mac-mini", "pi-5"]
    assert natural("n" + "9" * 6000)
