"""Who is at fault for what a node answered, and what may be done about it.

Pure: a status and a text go in, a verdict comes out. The table is `docs/failures.md`.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

_MAX_TEXT_CHARS = 4096


class Fault(StrEnum):
    """The party a failed attempt counts against."""

    NONE = "none"
    CLIENT = "client"
    NODE = "node"
    NETWORK = "network"
    WARMING = "warming"
    SATURATED = "saturated"
    MISCONFIGURED = "misconfigured"
    STALE_FACTS = "stale_facts"
    ENGINE = "engine"
    """Nobody: this sort of engine cannot do it, another may."""
    DENIED = "denied"
    """Nobody: our account there may not do this, another node may."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt means.

    `may_retry`: another node may be tried. `reached_engine`: the prompt got as far as an engine, so
    it counts towards the limit that keeps a poison prompt from touring the house.
    """

    fault: Fault
    may_retry: bool
    reached_engine: bool
    code: str
    retry_after_s: float | None = None

    @property
    def is_unfit(self) -> bool:
        """Whether the node is sound, and only cannot or may not do what is asked."""
        return self.fault in (Fault.ENGINE, Fault.DENIED)


_CALLER_5XX = re.compile(
    r"""option\ "[^"]*"\ must\ be\ of\ type
      | ^invalid\ format
      | template(\ error|:)
      | \{"error":\s*\{"code":\s*4\d\d
      | "type":\s*"(invalid_request_error|exceed_context_size_error)"
      | image\ input\ is\ not\ supported
      | the\ input\ length\ exceeds\ the\ context\ length
      | does\ not\ support\ embeddings
    """,
    re.VERBOSE,
)
_CALLER_403 = re.compile(
    r"cloud is disabled|not allowed to (?:generate embeddings|sample) from this model"
)
_LOADING = re.compile(r"Loading model", re.IGNORECASE)

_INCAPABLE = re.compile(
    r"""\S+\ does\ not\ support
        (?:\s+(?:tools|thinking|insert|vision|generate|chat|completions?))+\s*""",
    re.VERBOSE,
)
"""Ollama's words for what a model cannot do there: `"X"` or `X`, and one capability or several."""

_OK = Verdict(fault=Fault.NONE, may_retry=False, reached_engine=True, code="ok")
_CALLER = Verdict(fault=Fault.CLIENT, may_retry=False, reached_engine=True, code="caller")


def _not_now(code: str, fault: Fault, retry_after_s: float | None) -> Verdict:
    return Verdict(
        fault=fault,
        may_retry=True,
        reached_engine=False,
        code=code,
        retry_after_s=retry_after_s,
    )


def judge_status(
    status: int,
    text: str,
    *,
    retry_after_s: float | None = None,
    is_listed: bool = True,
    is_ollama: bool = True,
) -> Verdict:
    """Judge a complete reply by its status and error text.

    `text` is the error message (or the raw body); `is_listed` says whether the registry believes
    that the node holds the model. Where the node is no Ollama (`is_ollama`) a 403 is about this
    model or this request: a key that is no good gets a 401.
    """
    if status < 400:
        return _OK
    text = text[:_MAX_TEXT_CHARS]
    if status == 403 and not is_ollama:
        return _not_now("denied", Fault.DENIED, None)
    if status >= 500:
        return _judge_5xx(status, text, retry_after_s)
    return _judge_4xx(status, text, retry_after_s, is_listed=is_listed)


def _judge_4xx(status: int, text: str, retry_after_s: float | None, *, is_listed: bool) -> Verdict:
    if status == 401 or (status == 403 and not _CALLER_403.search(text)):
        return _not_now("refused_credentials", Fault.MISCONFIGURED, None)
    if status == 404 and is_listed and "not found" in text:
        return _not_now("model_gone", Fault.STALE_FACTS, None)
    if status == 429:
        return _not_now("rate_limited", Fault.SATURATED, retry_after_s)
    if status == 499:
        return Verdict(
            fault=Fault.NODE, may_retry=True, reached_engine=False, code="canceled_by_node"
        )
    return _CALLER


def _judge_5xx(status: int, text: str, retry_after_s: float | None) -> Verdict:
    if status == 501 or _CALLER_5XX.search(text):
        return _CALLER
    if status == 503:
        if _LOADING.search(text):
            return _not_now("loading", Fault.WARMING, retry_after_s)
        return _not_now("busy", Fault.SATURATED, retry_after_s)
    return Verdict(fault=Fault.NODE, may_retry=True, reached_engine=True, code=f"status_{status}")


def judge_error_line(text: str) -> Verdict:
    """Judge an error told inside a 200 stream before any content: as the 500 it would have been."""
    return _judge_5xx(500, text[:_MAX_TEXT_CHARS], None)


def is_incapable(status: int, text: str) -> bool:
    """Whether a reply says that the engine's copy of the model lacks a capability."""
    return status == 400 and _INCAPABLE.fullmatch(text[:_MAX_TEXT_CHARS]) is not None


def is_same_refusal(first: tuple[int, str], second: tuple[int, str]) -> bool:
    """Whether two nodes gave the same answer, which makes it the caller's fault."""
    return first == second
