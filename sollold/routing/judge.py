"""What an attempt's outcome means: from a reply or an error to a verdict. Decides nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sollold.core.outcome import Fault, Verdict, judge_error_line, judge_status
from sollold.errors import (
    ConnectFailed,
    UpstreamDisconnected,
    UpstreamTimeout,
)
from sollold.wire.refusal import error_text, known_words

if TYPE_CHECKING:
    from sollold.routing.attempt import Attempt

_EMPTY_STREAM = Verdict(
    fault=Fault.NODE, may_retry=True, reached_engine=True, code="ended_without_answer"
)
_CUT_ANSWER = Verdict(fault=Fault.NODE, may_retry=True, reached_engine=True, code="answer_cut")
_REDIRECT = Verdict(
    fault=Fault.MISCONFIGURED, may_retry=True, reached_engine=False, code="redirect"
)
UNSUPPORTED = Verdict(fault=Fault.ENGINE, may_retry=True, reached_engine=False, code="unsupported")
UNSUPPORTED_TEXT = "its engine cannot do this"
_LONGEST_RETRY_AFTER_S = 3600
_LONGEST_NUMBER = 12


class Judgement(NamedTuple):
    """What a reply means.

    `text` is the node's own wording, which may repeat a prompt: it is for the client whose prompt
    it is, and for comparing. `reason` may be logged.
    """

    verdict: Verdict
    text: str = ""
    reason: str = ""


def judge(attempt: Attempt, *, is_ollama: bool = True) -> Judgement:
    """Judge a reply before it is committed."""
    status = attempt.status
    if status >= 400:
        text = error_text(b"".join(attempt.held))
        if attempt.is_unsupported:
            return Judgement(UNSUPPORTED, text, UNSUPPORTED_TEXT)
        retry_after_s = _retry_after_s(attempt)
        verdict = judge_status(status, text, retry_after_s=retry_after_s, is_ollama=is_ollama)
        if verdict.fault is Fault.CLIENT:
            return Judgement(verdict, text)
        return Judgement(verdict, text, f"answered {status}{_known(text)}")
    if status >= 300:
        text = "a redirect, which no node sends; is the address right?"
        return Judgement(_REDIRECT, text, f"answered {status}: {text}")
    if attempt.is_stream and not attempt.has_content:
        error = attempt.early_error()
        if error is not None:
            return Judgement(judge_error_line(error), error, engine_failure(error))
        if attempt.is_over and not attempt.is_decided and not attempt.ending().is_terminated:
            text = "the stream ended before it began"
            return Judgement(_EMPTY_STREAM, text, text)
    elif attempt.is_over and not attempt.is_stream and not attempt.ending().is_terminated:
        text = "the answer is not whole"
        return Judgement(_CUT_ANSWER, text, text)
    return Judgement(judge_status(200, ""))


def engine_failure(text: str) -> str:
    """Return what may be logged of an error that a stream told."""
    return f"told an error{_known(text)}"


def _known(text: str) -> str:
    known = known_words(text)
    return f": {known}" if known else ""


def judge_error(attempt: Attempt) -> Verdict:
    """Judge a broken attempt by its error."""
    error = attempt.error
    was_sent = attempt.exchange is not None and attempt.exchange.is_sent
    match error:
        case ConnectFailed(refused=True):
            fault, code = Fault.NETWORK, "refused"
        case ConnectFailed():
            fault, code = Fault.NETWORK, "unreachable"
        case UpstreamTimeout(phase="connect"):
            fault, code = Fault.NETWORK, "connect_timeout"
        case UpstreamTimeout():
            fault, code = Fault.NODE, "silent"
        case UpstreamDisconnected():
            fault, code = Fault.NODE, "disconnected"
        case _:
            fault, code = Fault.NODE, "garbage"
    return Verdict(fault=fault, may_retry=True, reached_engine=was_sent, code=code)


def _retry_after_s(attempt: Attempt) -> float | None:
    value = attempt.header(b"retry-after")
    if value is not None and len(value) < _LONGEST_NUMBER and value.strip().isdigit():
        return float(min(_LONGEST_RETRY_AFTER_S, int(value)))
    return None
