"""What an attempt's outcome means: from a reply or an error to a verdict. Decides nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.core.outcome import Fault, Verdict, judge_error_line, judge_status
from sollold.errors import (
    ConnectFailed,
    UpstreamDisconnected,
    UpstreamTimeout,
)
from sollold.wire.refusal import error_text

if TYPE_CHECKING:
    from sollold.routing.attempt import Attempt

_EMPTY_STREAM = Verdict(
    fault=Fault.NODE, may_retry=True, reached_engine=True, code="ended_without_answer"
)
_CUT_ANSWER = Verdict(fault=Fault.NODE, may_retry=True, reached_engine=True, code="answer_cut")
_REDIRECT = Verdict(
    fault=Fault.MISCONFIGURED, may_retry=True, reached_engine=False, code="redirect"
)
_LONGEST_RETRY_AFTER_S = 3600
_LONGEST_NUMBER = 12


def judge(attempt: Attempt) -> tuple[Verdict, str]:
    """Judge a reply before it is committed; returns the verdict and the error's text."""
    if attempt.status >= 400:
        text = error_text(b"".join(attempt.held))
        return judge_status(attempt.status, text, retry_after_s=_retry_after_s(attempt)), text
    if attempt.status >= 300:
        return _REDIRECT, "a redirect, which no Ollama sends; is the address right?"
    if attempt.is_stream and not attempt.has_content:
        error = attempt.early_error()
        if error is not None:
            return judge_error_line(error), error
        if attempt.is_over and not attempt.is_decided and not attempt.ending().is_terminated:
            return _EMPTY_STREAM, "the stream ended before it began"
    elif attempt.is_over and not attempt.is_stream and not attempt.ending().is_terminated:
        return _CUT_ANSWER, "the answer is not whole"
    return judge_status(200, ""), ""


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
