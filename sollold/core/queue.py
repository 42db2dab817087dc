"""The one queue of requests that wait for a node.

Owns order, places, bounds and each client's share. Must not choose nodes or read a clock.

Requests stand in order of a virtual arrival: each step of priority above 5 moves it
`age_step_s` into the past. A request of priority p is therefore never overtaken by one that arrives
more than (10 - p) x `age_step_s` after it.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import count
from typing import TYPE_CHECKING

from sollold.errors import QueueFull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sollold.core.model import RequestId, WaitingRequest

DEFAULT_LIMIT = 512
DEFAULT_AGE_STEP_S = 30.0
NEUTRAL_PRIORITY = 5
MOST_URGENT = 10

_Key = tuple[float, float, int]


class Queue:
    """Waiting requests, most urgent first. A returning request keeps its arrival time."""

    def __init__(
        self,
        *,
        limit: int = DEFAULT_LIMIT,
        client_limit: int = 0,
        age_step_s: float = DEFAULT_AGE_STEP_S,
    ) -> None:
        self._limit = limit
        self._client_limit = client_limit
        self._age_step_s = age_step_s
        self._sequence = count()
        self._keys: list[_Key] = []
        self._waiting: list[WaitingRequest] = []
        self._key_of: dict[RequestId, _Key] = {}
        self._by_client: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, request: RequestId) -> bool:
        return request in self._key_of

    def __iter__(self) -> Iterator[WaitingRequest]:
        return iter(tuple(self._waiting))

    def push(self, request: WaitingRequest, *, is_returning: bool = False) -> None:
        """Let a request wait; one that returns from a failed attempt passes the bounds."""
        if request.id in self._key_of:
            msg = f"{request.id} waits already"
            raise ValueError(msg)
        if not is_returning:
            self._check_bounds(request.client)
        key = (self.virtual_arrival_s(request), request.arrival_s, next(self._sequence))
        place = bisect_left(self._keys, key)
        self._keys.insert(place, key)
        self._waiting.insert(place, request)
        self._key_of[request.id] = key
        self._by_client[request.client] = self._by_client.get(request.client, 0) + 1

    def remove(self, request: RequestId) -> WaitingRequest:
        """Take a request out: it was granted, or its client left."""
        key = self._key_of.pop(request, None)
        if key is None:
            msg = f"{request} does not wait"
            raise ValueError(msg)
        place = bisect_left(self._keys, key)
        del self._keys[place]
        waiting = self._waiting.pop(place)
        left = self._by_client[waiting.client] - 1
        if left:
            self._by_client[waiting.client] = left
        else:
            del self._by_client[waiting.client]
        return waiting

    def set_bounds(self, *, limit: int, client_limit: int, age_step_s: float) -> None:
        """Replace the bounds; what waits stays, in the order of the new step."""
        self._limit = limit
        self._client_limit = client_limit
        if age_step_s != self._age_step_s:
            self._age_step_s = age_step_s
            self._reorder()

    def _reorder(self) -> None:
        keyed = [
            ((self.virtual_arrival_s(waiting), *key[1:]), waiting)
            for key, waiting in zip(self._keys, self._waiting, strict=True)
        ]
        keyed.sort(key=lambda item: item[0])
        self._keys = [key for key, _ in keyed]
        self._waiting = [waiting for _, waiting in keyed]
        self._key_of = {waiting.id: key for key, waiting in keyed}

    def get(self, request: RequestId) -> WaitingRequest | None:
        """Return the waiting request of this id."""
        key = self._key_of.get(request)
        return None if key is None else self._waiting[bisect_left(self._keys, key)]

    def head(self, look_ahead: int = 64) -> tuple[WaitingRequest, ...]:
        """Return the first requests, in order."""
        return tuple(self._waiting[:look_ahead])

    def place(self, request: RequestId) -> int:
        """Return the place in the queue; 1 is next."""
        return bisect_left(self._keys, self._key_of[request]) + 1

    def of_client(self, client: str) -> int:
        """Count the waiting requests of a client."""
        return self._by_client.get(client, 0)

    def clients(self) -> dict[str, int]:
        """Return waiting requests per client."""
        return dict(self._by_client)

    def virtual_arrival_s(self, request: WaitingRequest) -> float:
        """Return the arrival as moved by priority: the order of the queue."""
        return request.arrival_s - (request.priority - NEUTRAL_PRIORITY) * self._age_step_s

    def overtaking_bound_s(self, priority: int) -> float:
        """Return the time after a request's arrival from which no newcomer can overtake it."""
        return (MOST_URGENT - priority) * self._age_step_s

    def _check_bounds(self, client: str) -> None:
        if len(self._waiting) >= self._limit:
            msg = f"{self._limit} requests are waiting, no more are taken"
            raise QueueFull(msg)
        if self._client_limit and self.of_client(client) >= self._client_limit:
            msg = f"{self._client_limit} requests of this client are waiting, no more are taken"
            raise QueueFull(msg)
