"""The same requests sent to a real Ollama and through the daemon get the same answers.

What differs on purpose is declared here and, with its reason, in docs/compatibility.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.real.asking import send, start_daemon
from tests.real.cases import GROUPS, name_of
from tests.real.compare import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fakes.cases import Case
    from tests.fakes.look import Answer
    from tests.real.cases import RawCase
    from tests.real.compare import Difference
    from tests.stack.ollama import OllamaServer

pytestmark = pytest.mark.real

_DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"
_ANY = "any"
_ANYWHERE = ".*"


class Wanted(NamedTuple):
    """A difference on purpose: where it shows, for which group of cases, and what is so instead."""

    name: str
    group: str
    place: str
    holds: Callable[[Answer, Answer], bool] = lambda direct, through: True


def _both_refuse(direct: Answer, through: Answer) -> bool:
    return direct.status >= 400 and through.status >= 400


def _is_ours_alone(direct: Answer, through: Answer) -> bool:
    return (direct.status, through.status) == (404, 200)


def _is_theirs_alone(direct: Answer, through: Answer) -> bool:
    return (through.status, through.body) == (404, b"404 page not found")


WANTED = (
    Wanted(
        "added-headers", _ANY, "header (via|server|x-request-id|x-accel-buffering|x-sollold-.*)"
    ),
    Wanted("holders-in-tags", _ANY, r"body\[\]\.models\[\]\.nodes"),
    Wanted("first-fault", "two faults", _ANYWHERE, _both_refuse),
    Wanted("malformed-http", "malformed", _ANYWHERE, lambda direct, _: direct.status >= 400),
    Wanted("odd-targets", "odd targets", _ANYWHERE),
    Wanted(
        "rules-before-redirects",
        "redirects",
        _ANYWHERE,
        lambda _, through: through.status in {301, 307, 403},
    ),
    Wanted(
        "ipv6-hosts",
        "IPv6 hosts",
        _ANYWHERE,
        lambda direct, through: (direct.status, through.status) == (403, 200),
    ),
    Wanted(
        "content-encoding",
        "encodings",
        _ANYWHERE,
        lambda _, through: through.status in {200, 400, 415},
    ),
    Wanted("header-count", "many headers", _ANYWHERE, lambda _, through: through.status == 400),
    Wanted("not-served", "not served", _ANYWHERE, _is_theirs_alone),
    Wanted("own-routes", "ours", _ANYWHERE, _is_ours_alone),
)


class Fleet:
    """One node asked directly, through a daemon of its own, and through one with three nodes."""

    def __init__(self, direct: str, through: dict[str, str]) -> None:
        self._direct = direct
        self._through = through
        self._found: dict[int, dict[str, tuple[Answer, Answer, list[Difference]]]] = {}

    def ask(self, case: Case | RawCase) -> dict[str, tuple[Answer, Answer, list[Difference]]]:
        """Both answers and their differences, by daemon; asked once."""
        if id(case) not in self._found:
            direct = send(self._direct, case)
            answers = {name: send(url, case) for name, url in self._through.items()}
            self._found[id(case)] = {
                name: (direct, through, differences(direct, through))
                for name, through in answers.items()
            }
        return self._found[id(case)]


@pytest.fixture(scope="module")
def fleet(
    _session_nodes: tuple[OllamaServer, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Three nodes behind two daemons."""
    one = start_daemon(tmp_path_factory.mktemp("one"), _session_nodes[:1])
    try:
        three = start_daemon(tmp_path_factory.mktemp("three"), _session_nodes)
        try:
            yield Fleet(_session_nodes[0].url, {"one": one.api_url, "three": three.api_url})
        finally:
            three.close()
    finally:
        one.close()


def _explains(
    wanted: Wanted, group: str, found: Difference, direct: Answer, through: Answer
) -> bool:
    return (
        wanted.group in {_ANY, group}
        and re.fullmatch(wanted.place, found.place) is not None
        and wanted.holds(direct, through)
    )


@pytest.mark.parametrize(
    ("group", "case"),
    [
        pytest.param(group, case, id=f"{group}: {name_of(case)}")
        for group, cases in GROUPS.items()
        for case in cases
    ],
)
def test_answers_as_ollama_does(group: str, case: Case | RawCase, fleet: Fleet) -> None:
    for name, (direct, through, found) in fleet.ask(case).items():
        unwanted = [
            difference
            for difference in found
            if not any(_explains(item, group, difference, direct, through) for item in WANTED)
        ]
        assert not unwanted, name


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.name)
def test_what_is_declared_does_differ(wanted: Wanted, fleet: Fleet) -> None:
    groups = GROUPS.values() if wanted.group == _ANY else [GROUPS[wanted.group]]
    for case in (case for cases in groups for case in cases):
        for direct, through, found in fleet.ask(case).values():
            if any(_explains(wanted, wanted.group, item, direct, through) for item in found):
                return
    pytest.fail("no case shows it")
