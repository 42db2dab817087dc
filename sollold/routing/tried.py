"""What a request has been through so far: who is left out, what was answered, who is suspected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sollold.core.outcome import Fault, is_same_refusal
from sollold.errors import ConnectFailed, UpstreamError, UpstreamProtocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sollold.core.model import NodeId
    from sollold.core.outcome import Verdict
    from sollold.errors import SollolError
    from sollold.routing.attempt import Attempt

_GATEWAYS_WORDS = frozenset({502, 503, 504})
"""What is said in the place of an engine, by a proxy or here: never a word about the request."""


class Tried:
    """The memory of one run. Every method is synchronous."""

    __slots__ = (
        "denied",
        "error",
        "excluded",
        "frozen",
        "incapable",
        "loading",
        "reached",
        "refused",
        "replies",
        "suspects",
    )

    def __init__(self, excluded: Iterable[NodeId]) -> None:
        self.excluded: set[NodeId] = set(excluded)
        self.refused: set[NodeId] = set()
        """Nodes that failed once; a second refused connection leaves them out."""
        self.frozen: set[Attempt] = set()
        """Attempts kept although their nodes are frozen; counted as having reached an engine."""
        self.loading: set[NodeId] = set()
        """Nodes left out only because they were loading."""
        self.reached = 0
        """Attempts that got as far as an engine."""
        self.replies: list[tuple[Attempt, str]] = []
        """Nodes' own refusals, with their texts."""
        self.denied: set[Attempt] = set()
        """Replies of nodes that our account may not ask for this."""
        self.incapable: Attempt | None = None
        """An engine's own word that it cannot do this; the answer if no other kind does."""
        self.error: UpstreamError | None = None
        self.suspects: list[tuple[Attempt, str]] = []
        """Server errors, counted against nobody until a second node had its say."""

    def is_second_opinion(self, attempt: Attempt, text: str) -> bool:
        """Whether another node gave the same server error: then it is the caller's fault."""
        mine = (attempt.status, text)
        return any(
            is_same_refusal((other.status, other_text), mine)
            for other, other_text in self.replies
            if other.status >= 500 and other.status not in _GATEWAYS_WORDS
        )

    def note_reply(self, attempt: Attempt, verdict: Verdict, text: str, reason: str) -> None:
        """Keep a reply that may have to be passed on, or what to say instead."""
        node = attempt.grant.node
        if verdict.fault is Fault.MISCONFIGURED:
            # Its own words are not for the client: they may repeat the node's key.
            self.error = UpstreamError(f"{node} {reason}")
        elif attempt.status >= 400:
            if verdict.fault is Fault.ENGINE and not attempt.is_unsupported:
                self.incapable = self.incapable or attempt
            if verdict.fault is Fault.DENIED:
                self.denied.add(attempt)
            self.replies.append((attempt, text))
        else:
            self.error = UpstreamError(f"{node}: {text}")

    def note_failure(self, attempt: Attempt, verdict: Verdict, text: str) -> bool:
        """Remember a failed attempt; True when its node is only suspected for now."""
        node = attempt.grant.node
        self.error = attempt.error or self.error
        # One that was left as frozen has been counted then.
        self.reached += verdict.reached_engine and attempt not in self.frozen
        is_refused = isinstance(attempt.error, ConnectFailed) and attempt.error.refused
        if not is_refused or node in self.refused:
            self.excluded.add(node)
        self.refused.add(node)
        if verdict.fault is Fault.WARMING:
            self.loading.add(node)
        is_suspect = verdict.code.startswith("status_")
        if is_suspect:
            self.suspects.append((attempt, text))
        return is_suspect

    def pardon_loading(self) -> None:
        """Leave nodes out no more for having been loading."""
        self.excluded -= self.loading
        self.loading.clear()

    def last_error(self, refusal: SollolError | None) -> SollolError:
        """Return what to say when no node replied; `refusal` is the queue's own."""
        # That names the nodes, which says more than a failed connection.
        if self.error is not None and not (refusal and isinstance(self.error, ConnectFailed)):
            return self.error
        return refusal or UpstreamProtocol("no attempt was made")

    def last_reply(self) -> Attempt | None:
        """Return the reply to pass on.

        What an engine said about the request comes first; what was said here in the place of one
        says least about the others.
        """
        if self.incapable is not None:
            return self.incapable
        told = [attempt for attempt, _ in self.replies]
        asked = [attempt for attempt in told if not attempt.is_unsupported]
        if asked or self.error is not None:
            return asked[-1] if asked else None
        return told[-1] if told else None

    def is_about_request(self, attempt: Attempt) -> bool:
        """Whether a reply to pass on says something about the request, and not about its node."""
        return attempt.is_unsupported or attempt is self.incapable or attempt in self.denied

    def leave(self, attempt: Attempt) -> None:
        """Leave a node whose engine may be at work on the prompt."""
        self.excluded.add(attempt.grant.node)
        self.reached += 1

    def take_suspects(self) -> list[tuple[Attempt, str]]:
        """Return the suspected attempts and forget them."""
        suspects, self.suspects = self.suspects, []
        return suspects
