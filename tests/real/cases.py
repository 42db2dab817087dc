"""Every request that is sent to a real Ollama and through the daemon, by what it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes.cases import CASES as RECORDED
from tests.real import cases_http, cases_json, cases_models

if TYPE_CHECKING:
    from tests.fakes.cases import Case
    from tests.real.case import AnyCase

_RECORDED = [case for case in RECORDED if case not in cases_http.NOT_SERVED]


def _unloads(case: Case) -> bool:
    return isinstance(case.body, dict) and case.body.get("keep_alive") == 0


UNLOADS: list[AnyCase] = [
    *(case for case in _RECORDED if _unloads(case)),
    *(case for case in cases_models.UNLOADS if case not in _RECORDED),
]
"""Whoever asks after one of these waits for the model to be loaded again: best sent in a row."""

ALIKE: dict[str, list[AnyCase]] = {
    "recorded": [case for case in _RECORDED if not _unloads(case)],
    "methods": cases_http.METHODS,
    "paths": cases_http.PATHS,
    "origins": cases_http.ORIGINS,
    "hosts": cases_http.HOSTS,
    "transport": cases_http.TRANSPORT,
    "on neither": cases_http.NEITHER,
    "bodies": cases_json.BODIES,
    "names": cases_json.NAMES,
    "loads": cases_models.LOADS,
    "options": cases_models.OPTIONS,
    "content": cases_models.CONTENT,
    "generate": cases_models.GENERATES,
    "openai": cases_models.OPENAI,
    "embed": cases_models.EMBEDS,
    "show": cases_models.SHOWS,
    "one of two faults": cases_models.SAME_FAULT,
}
"""Those whose answers must not differ, but for what the daemon adds to every one."""

UNLIKE: dict[str, list[AnyCase]] = {
    "two faults": cases_models.TWO_FAULTS,
    "malformed": cases_http.MALFORMED,
    "odd targets": cases_http.ODD_TARGETS,
    "redirects": cases_http.REDIRECTS,
    "IPv6 hosts": cases_http.IPV6_HOSTS,
    "encodings": cases_http.ENCODINGS,
    "many header fields": cases_http.MANY_FIELDS,
    "not served": cases_http.NOT_SERVED,
    "ours": cases_http.OURS,
}
"""Those whose answers may differ, each group in its own way."""
