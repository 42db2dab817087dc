"""One run of `sollolctl`: its settings, its streams and its way to the daemon."""

from __future__ import annotations

import contextlib
import select
import sys
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

from sollold.api_types import ErrorBody, ErrorDocument, encode
from sollold.ctl.client import Client
from sollold.ctl.failure import Exit, Failure, PipeClosed
from sollold.ctl.places import endpoints
from sollold.ctl.screen import detect
from sollold.ctl.status import hint_line
from sollold.wire.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from sollold.ctl.client import Reply
    from sollold.ctl.options import Settings
    from sollold.ctl.screen import Screen
    from sollold.system.unit import Unit

_PATIENCE_S = 0.3


class Session:
    """What a command needs to ask and to print."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.environ = environ
        self.out = detect(sys.stdout, environ, settings.color)
        self.err = detect(sys.stderr, environ, settings.color)
        self.zone: tzinfo | None = UTC if settings.is_utc else None
        url = settings.url or environ.get("SOLLOLD_URL")
        self.is_pointed = bool(url)
        """Whether one address was named, so that nothing else will do."""
        self.client = Client(
            endpoints(url, environ),
            timeout_s=settings.timeout_s,
            key=_key(settings.key_file, environ),
            is_unicode=self.out.is_unicode,
        )

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Reply:
        """Return a document, with a word on the terminal if that takes long."""
        try:
            with _patience(self.err):
                return self.client.get(path, query)
        finally:
            self._tell_tries()

    def post(self, path: str, *, also: AbstractSet[int] = frozenset()) -> Reply:
        """Have something done, with a word on the terminal if that takes long."""
        try:
            with _patience(self.err):
                return self.client.post(path, also=also)
        finally:
            self._tell_tries()

    def unit(self) -> Unit:
        """Return the unit of the daemon that answered, or would."""
        from sollold.system.unit import answering_unit

        endpoint = self.client.endpoint
        is_socket = endpoint is not None and endpoint.scheme == "unix"
        return answering_unit(endpoint.host if endpoint is not None and is_socket else "")

    def lines(self, path: str, query: Mapping[str, str]) -> Iterator[Reply]:
        """Yield the objects of a followed document."""
        try:
            yield from self.client.lines(path, query)
        finally:
            self._tell_tries()

    def print(self, lines: Sequence[str]) -> None:
        """Write result lines.

        Raises:
            PipeClosed: the reader has left.
        """
        text = "".join(f"{line}\n" for line in lines)
        self._write(text.encode(sys.stdout.encoding or "utf-8", "backslashreplace"))

    def print_document(self, reply: Reply) -> None:
        """Write a document's bytes as they came, and end the line.

        Raises:
            PipeClosed: the reader has left.
        """
        self._write(reply.body.rstrip(b"\n") + b"\n")

    def refuse_beside_json(self) -> None:
        """Make sure that nothing was asked for that an unchanged document cannot show.

        Raises:
            Failure: rows were to be left out.
        """
        settings = self.settings
        options = (
            ("--filter", settings.filters),
            ("-q", settings.is_quiet),
            ("--sort", settings.sort),
            ("--columns", settings.columns),
        )
        for name, value in options:
            if settings.is_json and value:
                message = f"{name} does not go with --json, which prints the document unchanged"
                raise Failure(Exit.USAGE, "usage", message)

    def refuse_watch(self) -> None:
        """Make sure that nobody waits for something to change that does not.

        Raises:
            Failure: it was to be shown again and again.
        """
        if self.settings.watch_s is not None:
            message = "--watch goes with lists and status; events follow with logs -f"
            raise Failure(Exit.USAGE, "usage", message)

    def note(self, text: str) -> None:
        """Write a remark on stderr."""
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(visible(text, is_unicode=self.err.is_unicode) + "\n")

    def pause(self, limit_s: float) -> None:
        """Wait between two looks.

        Raises:
            PipeClosed: the reader has left.
        """
        # Asked for no event, so that only a closed pipe or a lost terminal ends it early.
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        if poll.poll(limit_s * 1000):
            raise PipeClosed

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC)

    def _write(self, data: bytes) -> None:
        """Write all of the data; an unbuffered stream may take it in pieces."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[sys.stdout.buffer.write(rest) :]
            sys.stdout.buffer.flush()
        except BrokenPipeError as error:
            raise PipeClosed from error

    def _tell_tries(self) -> None:
        if not self.settings.is_verbose:
            return
        for miss in self.client.misses:
            self.note(f"tried {miss.endpoint.label}: {miss.reason}")
        if self.client.endpoint is not None:
            self.note(f"answered by {self.client.endpoint.label}")
        self.client.misses.clear()


def report_here(session: Session, failure: Failure) -> None:
    """Write a failure on stderr that does not end the command."""
    settings = session.settings
    report(failure, session.environ, settings.color, is_json=settings.is_json)


def report(failure: Failure, environ: Mapping[str, str], color: str, *, is_json: bool) -> None:
    """Write a failure on stderr, as words or as an error document."""
    screen = detect(sys.stderr, environ, color)
    with contextlib.suppress(BrokenPipeError):
        if is_json:
            sys.stderr.write(encode(_document(failure)).decode() + "\n")
            return
        message = visible(failure.message, is_unicode=screen.is_unicode)
        head = screen.paint(screen.glyph("down"), "down") if failure.is_state else "sollolctl:"
        lines = [f"{head} {message}"]
        for label, text in failure.hints:
            lines.append(hint_line(label, visible(text, is_unicode=screen.is_unicode)))
        sys.stderr.write("".join(f"{line}\n" for line in lines))


def _document(failure: Failure) -> ErrorDocument:
    hint = "; ".join(f"{label} {text}".strip() for label, text in failure.hints)
    body = ErrorBody(code=failure.code, message=failure.message, hint=hint or None)
    return ErrorDocument(error=body)


def _key(key_file: str | None, environ: Mapping[str, str]) -> str | None:
    if key_file is None:
        return environ.get("SOLLOLD_KEY") or None
    try:
        return Path(key_file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a key"
        raise Failure(Exit.USAGE, "usage", f"key file {key_file}: {reason}") from error


@contextlib.contextmanager
def _patience(screen: Screen) -> Iterator[None]:
    if not screen.is_terminal:
        yield
        return
    said: list[str] = []

    def say() -> None:
        said.append("waiting for sollold ...")
        sys.stderr.write(said[0])
        sys.stderr.flush()

    timer = Timer(_PATIENCE_S, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if said:
            sys.stderr.write("\r" + " " * len(said[0]) + "\r")
            sys.stderr.flush()
