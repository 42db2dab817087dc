"""Builds the documents of `/api/v1` from the daemon's live state. Changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sollold import __version__, api_types
from sollold.core.assign import assign
from sollold.core.model import NodeState, Reason
from sollold.core.names import display_of
from sollold.events.query import Filter
from sollold.events.ring import rfc3339
from sollold.routing.record import Outcome, Phase
from sollold.words.states import badness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sollold.core.model import Fleet, NodeId, NodeView
    from sollold.events.bus import EventBus
    from sollold.routing.admission import Admission
    from sollold.routing.dispatch import Dispatcher
    from sollold.routing.figures import Figures
    from sollold.routing.record import RequestRecord
    from sollold.routing.run import RequestRun
    from sollold.web.facts import DaemonFacts

    Waits = list[tuple[RequestRun, NodeId | None]]
    """Requests that wait, each with the node it waits for."""

_WINDOW_MS = 300_000.0
_HOUR_MS = 3_600_000.0
_FAILED = (Outcome.FAILED, Outcome.REFUSED, Outcome.INTERRUPTED)


class Documents:
    """One method per document."""

    def __init__(
        self,
        *,
        facts: DaemonFacts,
        fleet: Callable[[], Fleet],
        admission: Admission,
        dispatcher: Dispatcher,
        figures: Figures,
        bus: EventBus,
        clock: Callable[[], float],
    ) -> None:
        self._facts = facts
        self._fleet = fleet
        self._admission = admission
        self._dispatcher = dispatcher
        self._figures = figures
        self._bus = bus
        self._clock = clock

    def status(self) -> api_types.StatusDocument:
        """Build `/api/v1/status`."""
        now_s = self._clock()
        facts = self._facts
        nodes = self._fleet().nodes
        problems = tuple(_problem(node, now_s) for node in _worst_first(nodes) if _is_bad(node))
        state, reason = self._state(nodes, problems)
        return api_types.StatusDocument(
            at=_now_text(),
            version=__version__,
            state=state,
            reason=reason,
            uptime_ms=(now_s - facts.started_s) * 1000,
            pid=facts.pid,
            instance_id=facts.instance,
            addresses=facts.addresses,
            nodes=_node_counts(nodes),
            models=_model_counts(nodes),
            requests=self._request_counts(now_s),
            recent=_outcomes(self._figures.counts.total, now_s, _WINDOW_MS),
            speed=self._speed(now_s),
            problems=problems,
            looked_at=facts.looked_at if not nodes else None,
            history=api_types.History(
                place="memory",
                events=len(self._bus.ring),
                since=_optional_time(self._bus.ring.oldest_s),
            ),
            config=api_types.ConfigInfo(
                path=facts.config_path,
                loaded_ms=(now_s - facts.loaded_s) * 1000,
                waiting=facts.waiting,
                refused=facts.refusal or None,
            ),
            loop=facts.loop_name,
            not_configured=facts.not_configured,
        )

    def _state(
        self, nodes: tuple[NodeView, ...], problems: tuple[api_types.Problem, ...]
    ) -> tuple[str, Reason | None]:
        if self._facts.is_stopping:
            return "stopping", None
        if any(node.is_routable for node in nodes):
            return ("degraded" if problems else "serving"), None
        if not nodes:
            return "cannot_serve", Reason("no_nodes", "no nodes found yet")
        if all(node.state is NodeState.UNKNOWN for node in nodes):
            return "starting", Reason("not_probed", "no node has answered yet")
        return "cannot_serve", Reason("all_down", "no known node can take requests")

    def _request_counts(self, now_s: float) -> api_types.RequestCounts:
        waiting = [run.record for run in self._dispatcher.runs if run.is_waiting]
        total = sum(1 for _ in self._dispatcher.runs)
        oldest_s = min((record.received_s for record in waiting), default=None)
        return api_types.RequestCounts(
            running=total - len(waiting),
            queued=len(waiting),
            oldest_ms=None if oldest_s is None else (now_s - oldest_s) * 1000,
        )

    def _speed(self, now_s: float) -> api_types.Speed:
        first, rate = self._figures.first_token, self._figures.tokens_per_s
        return api_types.Speed(
            first_token_p50_ms=_ms(first.quantile(0.5, now_s)),
            first_token_p95_ms=_ms(first.quantile(0.95, now_s)),
            tokens_per_s=rate.quantile(0.5, now_s),
        )

    def nodes(self, waits: Waits | None = None) -> api_types.NodesDocument:
        """Build `/api/v1/nodes`, worst first; `waits` if they are known already."""
        now_s = self._clock()
        waits = self.waits() if waits is None else waits
        nodes = tuple(self._node(node, now_s, waits) for node in _worst_first(self._fleet().nodes))
        return api_types.NodesDocument(at=_now_text(), nodes=nodes)

    def node(self, name: str) -> api_types.NodeDocument | None:
        """Build `/api/v1/nodes/{name}`; None when there is no such node."""
        view = next((node for node in self._fleet().nodes if node.id == name), None)
        if view is None:
            return None
        now_s = self._clock()
        waits = self.waits()
        runs = [run for run in self._dispatcher.runs if run.record.node == view.id]
        records = self._bus.last(20, Filter.parse({"node": view.id, "kind": "node,model"}))
        changes = tuple(
            api_types.Change(at=rfc3339(item.at_s), text=item.event.change())
            for item in reversed(records)
        )
        return api_types.NodeDocument(
            at=_now_text(),
            node=self._node(view, now_s, waits),
            running=tuple(self._request(run, now_s) for run in runs if not run.is_waiting),
            waiting=tuple(
                self._request(run, now_s, node) for run, node in waits if node == view.id
            ),
            changes=changes,
        )

    def waits(self) -> Waits:
        """Return what waits, in the order of the queue, each with the node it waits for.

        None: that is not decided yet, or the request is too far behind.
        """
        runs = [run for run in self._dispatcher.runs if run.is_waiting]
        if not runs:
            return []
        runs.sort(key=lambda run: run.place or 0)
        admission = self._admission
        promised = assign(
            admission.queue.head(),
            admission.nodes,
            admission.load,
            self._clock(),
            policy=admission.policy,
            dice=0.0,
        ).reservations
        # A request in its second attempt waits under its id and a number.
        names = [(item.request, item.node) for item in promised]
        found: Waits = []
        for run in runs:
            own = (run.record.id, f"{run.record.id}.")
            nodes = (node for name, node in names if name == own[0] or name.startswith(own[1]))
            found.append((run, next(nodes, None)))
        return found

    def _node(self, view: NodeView, now_s: float, waits: Waits) -> api_types.Node:
        figures = self._figures.node(view.id)
        hour = _outcomes(figures.counts.total, now_s, _HOUR_MS)
        total = hour.ok + hour.failed
        return api_types.Node(
            name=view.id,
            id=view.id,
            state=view.state.value,
            reason=view.reason,
            since_ms=(now_s - view.since_s) * 1000,
            kind=view.kind.value,
            url=view.url,
            version=view.version,
            tier=view.tier,
            slots=view.slots,
            running=len(self._admission.load.on_node(view.id)),
            queued=sum(node == view.id for _, node in waits) if view.is_routable else None,
            first_token_ms=_ms(figures.first_token.quantile(0.5, now_s)),
            tokens_per_s=figures.tokens_per_s.quantile(0.5, now_s),
            vram_bytes=_vram_bytes(view),
            seen_ms=None if view.seen_s is None else (now_s - view.seen_s) * 1000,
            loaded=_loaded(view),
            models=None if view.seen_s is None else len(view.models),
            ok_rate=hour.ok / total if total else None,
            last_hour=hour if total else None,
            breaker="open" if view.is_ejected else "closed",
            found_by=view.found_by,
        )

    def requests(self, waits: Waits | None = None) -> api_types.RequestsDocument:
        """Build `/api/v1/requests`; `waits` if they are known already."""
        now_s = self._clock()
        waits = self.waits() if waits is None else waits
        runs = list(self._dispatcher.runs)
        return api_types.RequestsDocument(
            at=_now_text(),
            running=tuple(self._request(run, now_s) for run in runs if not run.is_waiting),
            waiting=tuple(self._request(run, now_s, node) for run, node in waits),
        )

    def _request(
        self, run: RequestRun, now_s: float, waits_for: NodeId | None = None
    ) -> api_types.Request:
        record = run.record
        is_waiting = run.is_waiting
        place = run.place if is_waiting else None
        tokens, tokens_per_s = _progress(run, now_s)
        return api_types.Request(
            id=record.id,
            model=record.model,
            task=record.kind.value,
            phase=Phase.WAITING.value if is_waiting else record.phase.value,
            node=None if is_waiting else record.node,
            age_ms=(now_s - record.received_s) * 1000,
            queue_ms=(now_s - record.received_s if is_waiting else record.queue_s) * 1000,
            priority=record.priority,
            attempt=record.attempts or None,
            ahead=None if place is None else place - 1,
            client=record.client,
            is_stream=record.is_stream,
            tokens=tokens,
            tokens_per_s=tokens_per_s,
            reason=_why_here(record) if not is_waiting else _why_waiting(waits_for),
        )

    def health(self) -> api_types.Health:
        """Build `/api/health`, in the shape older tools read."""
        status = self.status()
        word = {"serving": "healthy", "degraded": "degraded"}.get(status.state, "unhealthy")
        hosts = tuple(
            api_types.HostHealth(
                host=node.url,
                name=node.id,
                healthy=node.is_routable,
                state=node.state.value,
                reason=None if node.reason is None else node.reason.text,
            )
            for node in self._fleet().nodes
        )
        return api_types.Health(status=word, version=__version__, timestamp=status.at, hosts=hosts)


def _now_text() -> str:
    return rfc3339(datetime.now(UTC).timestamp())


def _optional_time(at_s: float | None) -> str | None:
    return None if at_s is None else rfc3339(at_s)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _worst_first(nodes: Iterable[NodeView]) -> list[NodeView]:
    return sorted(nodes, key=lambda node: (badness(node.state.value), node.id))


def _is_bad(node: NodeView) -> bool:
    return node.state in (NodeState.DOWN, NodeState.SLOW) or (
        node.state is NodeState.UNKNOWN and node.reason is not None
    )


def _problem(node: NodeView, now_s: float) -> api_types.Problem:
    return api_types.Problem(
        subject=node.id,
        state=node.state.value,
        since_ms=(now_s - node.since_s) * 1000,
        reason=node.reason or Reason("unknown", "no reason known"),
    )


def _node_counts(nodes: tuple[NodeView, ...]) -> api_types.NodeCounts:
    def count(state: NodeState) -> int:
        return sum(node.state is state for node in nodes)

    return api_types.NodeCounts(
        total=len(nodes),
        up=count(NodeState.UP),
        slow=count(NodeState.SLOW),
        draining=count(NodeState.DRAINING),
        down=count(NodeState.DOWN),
        unknown=count(NodeState.UNKNOWN),
    )


def _model_counts(nodes: tuple[NodeView, ...]) -> api_types.ModelCounts:
    tellers = [node for node in nodes if node.tells_memory]
    return api_types.ModelCounts(
        known=len({key for node in nodes for key in node.models}),
        loaded=len({item.key for node in tellers for item in node.residents}),
        loaded_nodes=sum(bool(node.residents) for node in tellers),
    )


def _progress(run: RequestRun, now_s: float) -> tuple[int | None, float | None]:
    """Return tokens so far and their rate: engines send each in a frame of its own."""
    attempt = run.stream
    if attempt is None or attempt.first_content_s is None:
        return None, None
    tokens, passed_s = attempt.frames, now_s - attempt.first_content_s
    return tokens, (tokens - 1) / passed_s if tokens > 1 and passed_s > 0 else None


def _outcomes(
    total: Callable[[str, float], int], now_s: float, window_ms: float
) -> api_types.Outcomes:
    return api_types.Outcomes(
        window_ms=window_ms,
        ok=total(Outcome.OK.value, now_s),
        failed_over=total("failed_over", now_s),
        failed=sum(total(outcome.value, now_s) for outcome in _FAILED),
    )


def _vram_bytes(view: NodeView) -> int | None:
    """Sum what the node says it uses; None when it says nothing (an engine it cannot read)."""
    known = [item.size_vram_bytes for item in view.residents if item.size_bytes > 0]
    return sum(known) if known else None


def _loaded(view: NodeView) -> tuple[api_types.LoadedModel, ...] | None:
    if view.seen_s is None or not view.tells_memory:
        return None
    return tuple(
        api_types.LoadedModel(
            name=str(item.entry.get("name") or display_of(item.key)),
            size_bytes=item.size_bytes or None,
            size_vram_bytes=item.size_vram_bytes if item.size_bytes else None,
            context_length=item.context_length,
            expires_at=item.expires_at or None,
        )
        for item in view.residents
    )


def _why_waiting(node: NodeId | None) -> str | None:
    return None if node is None else f"{node} is full"


def _why_here(record: RequestRecord) -> str | None:
    return None if record.decision is None else record.decision.reason
