"""One server other than Ollama under watch: what it answers, and what follows from it.

Owns no schedule and no facts: facts go to the registry.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sollold.core.health import Misconfigured, ProbeFailed, ProbeOk, Saturated, Silent
from sollold.core.model import NodeKind
from sollold.nodes.client import Peer
from sollold.nodes.llama import LlamaLooker
from sollold.nodes.look import Look
from sollold.nodes.openai import OpenAiLooker
from sollold.nodes.race import first_good

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.core.model import NodeId
    from sollold.nodes.ask import Failure, Target
    from sollold.nodes.look import Looker, Seen
    from sollold.nodes.records import ProbeTarget
    from sollold.nodes.tools import Tools


class ForeignWatch:
    """Looks at one server of one kind."""

    def __init__(self, node: NodeId, kind: NodeKind, tools: Tools) -> None:
        self.kind = kind
        self.gap_s = 0.0
        """How long the server is to be left alone after the last round."""
        self._node = node
        self._tools = tools
        self._looker = _looker(kind, tools)
        self._silent_since_s: float | None = None
        """When the first of the probes in a row that were not answered in time began."""
        self._looked_s = float("-inf")

    @property
    def is_silent(self) -> bool:
        """Whether probes have gone unanswered for longer than any work explains."""
        since_s, tools = self._silent_since_s, self._tools
        return since_s is not None and tools.clock() - since_s >= tools.settings.silence_s

    @property
    def may_be_asked(self) -> bool:
        """Whether a look beside the schedule is in order; not all servers are in the house."""
        if self.kind is not NodeKind.OPENAI:
            return True
        return self._tools.clock() - self._looked_s >= self._tools.settings.cloud_retry_s

    async def round(self, places: Sequence[Target], target: ProbeTarget) -> Failure | None:
        """Look once; returns a failure for the caller to note."""
        tools = self._tools
        limit_s = tools.settings.limit_s
        began_s = self._looked_s = tools.clock()
        calls = [partial(self._looker.look, place, target.offer, limit_s) for place in places]
        index, answers = await first_good(calls, _is_answer, tools.settings.race_s)
        seen = answers[0] if index >= 0 else worst_seen(answers)
        self._pace(seen)
        self._note_silence(seen, began_s)
        if isinstance(seen, Look):
            tools.registry.unmark_peer(self._node)
            tools.registry.prefer_address(self._node, places[index].address)
            self._note(seen)
        elif isinstance(seen, Peer):
            tools.registry.mark_peer(self._node, seen.version)
        elif isinstance(seen, Saturated):
            tools.registry.observe(self._node, seen)
        elif self._is_at_work(seen):
            tools.registry.observe(self._node, Silent())
        else:
            self._looker.forget()
            return seen
        return None

    def forget(self) -> None:
        """Have everything asked anew. No await."""
        self._looker.forget()

    def _note(self, seen: Look) -> None:
        """Tell the registry what the server runs. No await."""
        registry, node = self._tools.registry, self._node
        registry.set_version(node, seen.version)
        registry.set_slots(node, seen.slots)
        models = {model.key: model for model in seen.models}
        registry.set_catalogue(node, models)
        registry.set_residents(node, seen.residents, asked_s=self._tools.clock())
        registry.observe(node, ProbeOk(seen.latency_s))

    def _is_at_work(self, failure: Failure) -> bool:
        """Whether it may be silent because all its threads are busy with our requests."""
        is_silent = isinstance(failure, ProbeFailed) and failure.code == "timeout"
        is_llama = self.kind is NodeKind.LLAMA_SERVER
        has_work = is_llama and self._tools.has_work(self._node)
        return is_silent and has_work and not self.is_silent

    def _note_silence(self, seen: Seen, began_s: float) -> None:
        if not isinstance(seen, ProbeFailed) or seen.code != "timeout":
            self._silent_since_s = None
        elif self._silent_since_s is None:
            self._silent_since_s = began_s

    def _pace(self, seen: Seen) -> None:
        if self.kind is NodeKind.OPENAI:
            settings = self._tools.settings
            is_well = isinstance(seen, Look | Saturated)
            self.gap_s = settings.cloud_s if is_well else settings.cloud_retry_s


def worst_seen(answers: Sequence[Seen]) -> Failure:
    """Return the failure that says most."""
    failures = [one for one in answers if not isinstance(one, Look | Peer | Saturated)]
    return min(failures, key=weight)


def weight(failure: Failure) -> int:
    """Order failures by how much they say: refused only counts when every address refuses."""
    if isinstance(failure, Misconfigured):
        return 0
    if isinstance(failure, ProbeFailed):
        return 3 if failure.is_refused else 2
    return 1


def _is_answer(seen: Seen) -> bool:
    return isinstance(seen, Look | Peer | Saturated)


def _looker(kind: NodeKind, tools: Tools) -> Looker:
    if kind is NodeKind.OPENAI:
        return OpenAiLooker(tools.client)
    return LlamaLooker(
        tools.client,
        list_s=lambda: tools.settings.catalogue_s,
        list_limit_s=tools.settings.catalogue_limit_s,
        clock=tools.clock,
    )
