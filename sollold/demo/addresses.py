"""Which ports the demo takes, and in words why not the usual ones."""

from __future__ import annotations

from typing import NamedTuple

from sollold.demo.failure import EXIT_TAKEN, DemoFailed
from sollold.system.holder import Holder, find_holder
from sollold.system.listen import AddressTaken, ListenError, bind_tcp

HOST = "127.0.0.1"
API_PORT = 11434
CONSOLE_PORT = 8080
_ENGINE_PORT = 11441
_TRIES = 100


class Choice(NamedTuple):
    """A port that was free a moment ago; `note` says why it is not the usual one."""

    port: int
    note: str = ""

    @property
    def url(self) -> str:
        """The address as clients write it."""
        return f"http://{HOST}:{self.port}"


def choose_api(wanted: int | None) -> Choice:
    """Choose the port for clients: the wanted one or none, else Ollama's or the next free one.

    Raises:
        DemoFailed: there is none.
    """
    if wanted is None:
        return _first_free(API_PORT)
    try:
        _try(wanted, "--port", ask_who=True)
    except AddressTaken as taken:
        by = f" by {taken.holder}" if taken.holder else ""
        text = f"{HOST}:{wanted} is taken{by}; choose another port, or leave --port away"
        raise DemoFailed(text, exit_code=EXIT_TAKEN) from taken
    except ListenError as error:
        raise DemoFailed(error.message, exit_code=EXIT_TAKEN) from error
    return Choice(wanted)


def choose_console(*, taken: frozenset[int]) -> Choice:
    """Choose the port for browsers."""
    return _first_free(CONSOLE_PORT, taken)


def choose_engines(count: int, *, taken: frozenset[int]) -> tuple[int, ...]:
    """Choose ports for engines."""
    ports: tuple[int, ...] = ()
    for _ in range(count):
        ports += (_first_free(_ENGINE_PORT, taken.union(ports), is_usual=False).port,)
    return ports


def _first_free(
    usual: int, taken: frozenset[int] = frozenset(), *, is_usual: bool = True
) -> Choice:
    note = ""
    for port in range(usual, usual + _TRIES):
        if port in taken:
            continue
        try:
            _try(port, "the demo", ask_who=is_usual and port == usual)
        except AddressTaken as error:
            if is_usual and port == usual:
                by = f" by {error.holder}" if error.holder else ""
                note = f"port {usual} is taken{by}"
        except ListenError as error:
            raise DemoFailed(error.message, exit_code=EXIT_TAKEN) from error
        else:
            return Choice(port, f"{note}, so it is {port} here" if note else "")
    last = usual + _TRIES - 1
    raise DemoFailed(f"all ports from {usual} to {last} are taken", exit_code=EXIT_TAKEN)


def _try(port: int, setting: str, *, ask_who: bool) -> None:
    """Bind as the daemon will, and let go."""
    who = find_holder if ask_who else _nobody
    for sock in bind_tcp(((HOST, port),), setting=setting, who=who):
        sock.close()


def _nobody(_host: str, _port: int) -> Holder | None:
    return None
