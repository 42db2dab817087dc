"""`sollolctl service`: the daemon as a service of systemd, installed, removed and looked at."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sollold.ctl.failure import Exit, Failure
from sollold.ctl.manager import ServiceManager, linger_argv
from sollold.ctl.unitfile import (
    SERVICE,
    SOCKET,
    exec_words,
    is_as_written,
    is_sealed,
    unit_text,
)
from sollold.system.shipped import shipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sollold.ctl.session import Session

_PROPERTIES = ("LoadState", "ActiveState", "SubState", "UnitFileState", "StatusText", "MainPID")


_DRAIN_NOTE = "Stopping: waiting for running requests, up to 30 s unless configured otherwise"
"""As server.drain_s says."""


class FileChange(msgspec.Struct, frozen=True):
    """What became of a file: `written`, `unchanged`, `removed` or `kept`."""

    path: str
    change: str


class ServiceReport(msgspec.Struct, kw_only=True):
    """What was done, or would be."""

    manager: str
    is_dry_run: bool
    files: list[FileChange] = msgspec.field(default_factory=list)
    commands: list[list[str]] = msgspec.field(default_factory=list)
    lingering: bool | None = None


class ServiceState(msgspec.Struct, kw_only=True):
    """How the service is. `socket` and `service`: absent, installed or edited."""

    manager: str
    service: str
    socket: str
    socket_active: str = "unknown"
    socket_result: str = ""
    """Why it failed, in the manager's word; `success` when it did not."""
    active: str = "unknown"
    sub: str = "unknown"
    enabled: str = "unknown"
    status: str = ""
    pid: int | None = None
    lingering: bool | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    has_socket: bool = False
    is_now: bool = False
    has_linger: bool = False
    is_forced: bool = False
    is_dry_run: bool = False


class Work:
    """Carries out, or only notes, what an installation or its removal takes."""

    def __init__(self, session: Session, manager: ServiceManager, options: Options) -> None:
        self._session = session
        self._is_dry_run = options.is_dry_run
        self._manager = manager
        self.report = ServiceReport(manager=manager.name, is_dry_run=options.is_dry_run)

    def write(self, path: Path, text: str) -> None:
        """Write a unit file unless it is as it should be."""
        if _read(path) == text and not path.is_symlink():
            self._note_file(path, "unchanged")
            return
        if not self._is_dry_run:
            _replace(path, text)
        self._note_file(path, "written")

    def remove(self, path: Path) -> None:
        """Remove a unit file."""
        if not self._is_dry_run:
            path.unlink(missing_ok=True)
        self._note_file(path, "removed")

    def keep(self, path: Path) -> None:
        """Leave a file where it is, and say so."""
        self._note_file(path, "kept")

    def command(self, *args: str) -> None:
        """Have the manager do something."""
        self._note_command(self._manager.argv(*args))
        if not self._is_dry_run:
            self._manager.command(*args)

    def linger(self) -> None:
        """Turn lingering on."""
        self._note_command(linger_argv())
        if not self._is_dry_run:
            self._manager.linger()

    def say(self, *lines: str) -> None:
        """Tell a person; a program reads the report."""
        if not self._session.settings.is_json:
            self._session.print(lines)

    def finish(self) -> None:
        """Print the report for a program."""
        self.report.lingering = self._manager.is_lingering()
        _print_json(self._session, self.report)

    def _note_file(self, path: Path, change: str) -> None:
        self.report.files.append(FileChange(str(path), change))
        would = "would be " if self._is_dry_run and change in {"written", "removed"} else ""
        self.say(f"{would}{change}: {path}")

    def _note_command(self, argv: list[str]) -> None:
        self.report.commands.append(argv)
        self.say(f"{'would run' if self._is_dry_run else 'run'}: {' '.join(argv)}")


def install(session: Session, manager: ServiceManager, options: Options) -> None:
    """Write the units, have the manager read and enable them."""
    argv = daemon_argv()
    _require_root(manager, options, "install")
    _require_manager(manager, argv)
    if manager.is_system:
        _require_open_way(argv)
    names = (SERVICE, SOCKET) if options.has_socket else (SERVICE,)
    if not options.is_forced:
        _refuse_edited(manager, names)
    work = Work(session, manager, options)
    for name in names:
        template = (shipped("systemd") / manager.name / name).read_text(encoding="utf-8")
        text = unit_text(
            name, template=template, command=_command(argv), is_system=manager.is_system
        )
        work.write(manager.units / name, text)
    work.command("daemon-reload")
    work.command("enable", *names)
    if options.is_now:
        _start(manager, work, has_socket=options.has_socket)
    if options.has_linger and not manager.is_system:
        work.linger()
    _say_next(manager, work, options)
    work.finish()


def uninstall(session: Session, manager: ServiceManager, options: Options) -> None:
    """Stop and forget the service, and remove what `install` wrote."""
    _require_root(manager, options, "uninstall")
    present = [name for name in (SOCKET, SERVICE) if _exists(manager.units / name)]
    removable = [name for name in present if options.is_forced or _is_ours(manager.units / name)]
    work = Work(session, manager, options)
    has_manager = not manager.refusal()
    ended = _to_end(manager, present, removable)
    left = [name for name in (SOCKET, SERVICE) if name not in present and _is_left(manager, name)]
    if (ended or left) and has_manager and _active(manager, SERVICE) == "active":
        work.say(_DRAIN_NOTE)
    if ended and has_manager:
        # The socket first: a client must not start again what is being stopped.
        work.command("disable", "--now", *ended)
    if left and has_manager:
        work.command("stop", *left)
    for name in left:
        for link in _links(manager, name):
            work.remove(link)
    for name in present:
        (work.remove if name in removable else work.keep)(manager.units / name)
    if (removable or left) and has_manager:
        work.command("daemon-reload")
    for name in (SOCKET, SERVICE):
        drop_ins = manager.units / f"{name}.d"
        if drop_ins.is_dir():
            work.keep(drop_ins)
    if not present and not left:
        work.say(f"No {manager.name} unit of sollold in {manager.units}: nothing to do")
    if len(removable) < len(present):
        work.say("Kept files were edited by hand; --force removes them too, or by hand:")
        kept = [name for name in present if name not in removable]
        files = " ".join(str(manager.units / name) for name in kept)
        disable = " ".join(manager.argv("disable", "--now", *kept))
        work.say(f"  {disable} && rm {files} && {' '.join(manager.argv('daemon-reload'))}")
    work.finish()


def _to_end(manager: ServiceManager, present: list[str], removable: list[str]) -> list[str]:
    """Return what is stopped and disabled: what goes, what was edited, and what would start it."""
    return [
        name
        for name in present
        if name in removable
        or is_sealed(_read(manager.units / name) or "")
        or (name == SOCKET and SERVICE in removable)
    ]


def _is_left(manager: ServiceManager, name: str) -> bool:
    """Whether a unit without its file still runs, or is linked to be started."""
    return bool(_links(manager, name)) or _active(manager, name) in {"active", "activating"}


def _links(manager: ServiceManager, name: str) -> list[Path]:
    found = (folder / name for folder in manager.units.glob("*.wants"))
    return sorted(path for path in found if path.is_symlink())


def status(session: Session, manager: ServiceManager) -> bool:
    """Print how the service is; return whether it runs."""
    state = _state(manager)
    if session.settings.is_json:
        _print_json(session, state)
    else:
        session.print(_state_lines(manager, state))
    return state.active == "active"


def is_only_of_the_system(manager: ServiceManager) -> bool:
    """Whether the machine has the service, and the user who asks has none."""
    return not _exists(manager.units / SERVICE) and _exists(manager.system_units / SERVICE)


def daemon_argv() -> list[str]:
    """Return the command that starts the daemon which this program came with."""
    python = Path(sys.executable)
    beside = python.parent / "sollold"
    if os.access(beside, os.X_OK):
        return [str(beside)]
    return [str(python), "-m", "sollold"]


def _command(argv: list[str]) -> str:
    try:
        return exec_words(argv)
    except ValueError as error:
        hints = (("Instead", "install sollold in a folder with a plain name"),)
        raise Failure(Exit.FAILED, "path", f"{error}", hints) from error


def _require_root(manager: ServiceManager, options: Options, verb: str) -> None:
    if manager.is_system and not options.is_dry_run and os.geteuid() != 0:
        hints = (
            ("As root", f"sudo {sys.argv[0]} service {verb} --system"),
            ("or", "leave out --system: a service of your own needs no root"),
        )
        raise Failure(Exit.FAILED, "not_root", "units of the system are for root to write", hints)


def _require_manager(manager: ServiceManager, argv: list[str]) -> None:
    reason = manager.refusal()
    if reason:
        hints = (
            ("Foreground", " ".join(argv)),
            ("Another init", "have it run that command; SIGTERM stops it, SIGHUP reloads it"),
        )
        message = f"no systemd {manager.name} manager answers here ({reason}); nothing was written"
        raise Failure(Exit.FAILED, "no_systemd", message, hints)


def _require_open_way(argv: list[str]) -> None:
    """Make sure that the service's own user, who is none of this machine's, reaches the program."""
    for path in (Path(argv[0]), Path(sys.executable).resolve()):
        for folder in path.parents:
            if not folder.stat().st_mode & 0o001:
                message = f"{path} cannot be run by the service's own user: {folder} is closed"
                hints = (("Instead", "install sollold for all users, in /opt/sollold/venv"),)
                raise Failure(Exit.FAILED, "path", message, hints)


def _refuse_edited(manager: ServiceManager, names: Sequence[str]) -> None:
    for name in names:
        path = manager.units / name
        if _exists(path) and not _is_ours(path):
            edit = " ".join(manager.argv("edit", name))
            options = "--system " if manager.is_system else ""
            hints = (
                ("Keep yours", f"move what you changed into a drop-in: {edit}"),
                ("Replace it", f"{_call(manager)} service install {options}--force"),
            )
            message = f"{path} was not written by this command, or was edited since"
            raise Failure(Exit.FAILED, "edited", message, hints)


def _call(manager: ServiceManager) -> str:
    return f"sudo {sys.argv[0]}" if manager.is_system else "sollolctl"


def _start(manager: ServiceManager, work: Work, *, has_socket: bool) -> None:
    if has_socket:
        is_running = _active(manager, SERVICE) in {"active", "activating"}
        if is_running and _active(manager, SOCKET) != "active":
            # It holds the addresses that the socket unit is to hold.
            work.command("stop", SERVICE)
        work.command("start", SOCKET)
    try:
        work.command("start", SERVICE)
    except Failure as failure:
        causes = manager.last_errors(SERVICE)
        if causes:
            failure.hints = (*(("Cause", line) for line in causes), *failure.hints)
        raise


def _say_next(manager: ServiceManager, work: Work, options: Options) -> None:
    if not options.is_now:
        work.say(f"Start it: {' '.join(manager.argv('start', SERVICE))}")
    elif any(file.change == "written" for file in work.report.files):
        work.say(
            f"A daemon that ran before takes the new unit at its next start: "
            f"{' '.join(manager.argv('restart', SERVICE))}"
        )
    if not options.has_linger and manager.is_lingering() is False:
        work.say(
            f"Lingering is off: it ends when you log out. Turn it on: {' '.join(linger_argv())}"
        )


def _state(manager: ServiceManager) -> ServiceState:
    found = manager.properties(SERVICE, *_PROPERTIES)
    socket = manager.properties(SOCKET, "ActiveState", "Result")
    pid = found.get("MainPID", "0")
    return ServiceState(
        manager=manager.name,
        service=_file_state(manager.units / SERVICE),
        socket=_file_state(manager.units / SOCKET),
        socket_active=socket.get("ActiveState", "unknown"),
        socket_result=socket.get("Result", ""),
        active=found.get("ActiveState", "unknown"),
        sub=found.get("SubState", "unknown"),
        enabled=found.get("UnitFileState") or "disabled" if found else "unknown",
        status=found.get("StatusText", ""),
        pid=int(pid) if pid.isdecimal() and pid != "0" else None,
        lingering=manager.is_lingering(),
    )


def _state_lines(manager: ServiceManager, state: ServiceState) -> list[str]:
    lines = [f"{SERVICE} ({state.manager})  {state.active} ({state.sub}), {state.enabled}"]
    reason = manager.refusal()
    if reason:
        lines = [f"{SERVICE} ({state.manager})  no manager answers: {reason}"]
    if state.status:
        lines.append(f"  says       {state.status}")
    lines.append(f"  unit       {state.service}: {manager.units / SERVICE}")
    lines.append(f"  socket     {state.socket}: {manager.units / SOCKET}")
    lines += _socket_lines(manager, state)
    if state.lingering is not None:
        off = f"off: it ends when you log out. Turn it on: {' '.join(linger_argv())}"
        lines.append(f"  lingering  {'on' if state.lingering else off}")
    return lines


def _socket_lines(manager: ServiceManager, state: ServiceState) -> list[str]:
    """Say that nobody holds the addresses although the socket unit is there, and the remedy."""
    if state.socket == "absent" or state.socket_active not in {"failed", "inactive"}:
        return []
    is_failed = state.socket_active == "failed"
    why = f" ({state.socket_result})" if is_failed and state.socket_result else ""
    lines = [f"             it is {state.socket_active}{why}: the addresses are not held. Mend:"]
    if is_failed or state.active == "failed":
        lines.append(f"             {' '.join(manager.argv('reset-failed', SOCKET, SERVICE))}")
    # The service wants its socket: that is started first.
    lines.append(f"             {' '.join(manager.argv('restart', SERVICE))}")
    return lines


def _active(manager: ServiceManager, unit: str) -> str:
    return manager.properties(unit, "ActiveState").get("ActiveState", "")


def _file_state(path: Path) -> str:
    if not _exists(path):
        return "absent"
    return "installed" if _is_ours(path) else "edited"


def _is_ours(path: Path) -> bool:
    return not path.is_symlink() and is_as_written(_read(path) or "")


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, encoding="utf-8")
        new.chmod(0o644)
        new.replace(path)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        hints = (("Needed", f"a folder {path.parent} that this user may write"),)
        raise Failure(Exit.FAILED, "file", message, hints) from error


def _print_json(session: Session, document: msgspec.Struct) -> None:
    if session.settings.is_json:
        session.print([msgspec.json.encode(document).decode()])
