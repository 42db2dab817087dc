"""Requests to engines of another dialect: the calls made first, and the reply turned back."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, cast

from sollold.errors import UpstreamProtocol
from sollold.upstream.exchange import Head
from sollold.wire.translate.seam import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from sollold.errors import UpstreamError
    from sollold.routing.attempt import Attempt
    from sollold.routing.job import InBackground
    from sollold.wire.translate.seam import Answer, Done, ReplyReader, Steps, Translation

_PASSED_ON = frozenset({b"retry-after"})
"""Headers of an engine that mean the same in every dialect."""


async def translate(
    steps: Steps, ask: Callable[[Call], Awaitable[Answer]], in_background: InBackground | None
) -> Translation | Done:
    """Make the calls that come first, one after the other; return what does the work.

    Where there is nothing to do, the answer itself is returned.

    A large request is taken apart `in_background`, so that others are not held up.

    Raises:
        Unsupported: the engine cannot do what is asked.
        Refused: the engine did not do what a call asked.
        UpstreamError: a call was not answered.
    """
    answer: Answer | None = None
    while True:
        if in_background is None:
            step = _advance(steps, answer)
        else:
            step = await in_background(partial(_advance, steps, answer))
        if not isinstance(step, Call):
            return step
        answer = await ask(step)


def _advance(steps: Steps, answer: Answer | None) -> Call | Translation | Done:
    """Do one step; a generator's end cannot leave a thread as an exception."""
    try:
        # The first step takes None, whatever the generator's type says.
        return steps.send(cast("Answer", answer))
    except StopIteration as end:
        return cast("Translation | Done", end.value)


class TranslatedReply:
    """Hands an attempt the reply as an Ollama node would have sent it.

    (`sollold.upstream.exchange.Receiver`)
    """

    __slots__ = ("_attempt", "_has_begun", "_headers", "_reader", "_spawn")

    def __init__(
        self,
        attempt: Attempt,
        reader: ReplyReader,
        spawn: Callable[[Coroutine[object, object, None]], None],
    ) -> None:
        self._attempt = attempt
        self._reader = reader
        self._spawn = spawn
        self._headers: list[tuple[bytes, bytes]] = []
        self._has_begun = False

    def on_head(self, head: Head) -> None:
        """Take the engine's head; the client's depends on what follows. No await."""
        content_type = b""
        for name, value in head.headers:
            lower = name.lower()
            if lower == b"content-type":
                content_type = value
            elif lower in _PASSED_ON:
                self._headers.append((name, value))
        self._reader.begin(head.status, content_type.decode("latin-1"))

    def on_body(self, data: bytes) -> None:
        """Take a piece of the engine's body. No await."""
        out = self._reader.feed(data)
        # A comment says that the server lives, not that its engine does.
        if not out and not data.startswith(b":"):
            self._attempt.hear(len(data))
        self._pass(out)
        if self._reader.is_spoiled:
            # What the reader has to say of it is the whole answer; nobody waits for the rest.
            self._pass(self._reader.finish())
            self._attempt.end_early()

    def on_end(self) -> None:
        """Take the clean end of the engine's message. No await."""
        if self._reader.is_heavy:
            self._spawn(self._end_in_thread())
        else:
            self._end(self._reader.finish())

    async def _end_in_thread(self) -> None:
        """Have a long answer printed where it holds up nobody; the client may leave meanwhile."""
        rest: bytes | None = None
        try:
            rest = await asyncio.to_thread(self._reader.finish)
        finally:
            if rest is None:
                self._attempt.fail(UpstreamProtocol("the engine's reply was not read to its end"))
        if not self._attempt.is_over:
            self._end(rest)

    def _end(self, rest: bytes) -> None:
        self._pass(rest)
        if self._has_begun:
            self._attempt.on_end()
        else:
            self._attempt.on_error(UpstreamProtocol("the engine's reply means nothing"))

    def on_error(self, error: UpstreamError) -> None:
        """Take the news that the message will never be complete. No await."""
        self._attempt.on_error(error)

    def _pass(self, data: bytes) -> None:
        attempt, head = self._attempt, self._reader.head
        if not self._has_begun and head is not None:
            self._has_begun = True
            kind = (b"Content-Type", head.content_type.encode("latin-1"))
            attempt.on_head(Head(head.status, [kind, *self._headers]))
        if data and not attempt.is_over:
            attempt.on_body(data)
