"""`sollolctl service` with a systemctl that notes what it is asked."""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path

import pytest

from sollold.ctl.main import run
from sollold.ctl.manager import ServiceManager, linger_argv, user_name
from sollold.ctl.options import Command
from sollold.ctl.service_group import service_group

Captured = pytest.CaptureFixture[str]

_SYSTEMCTL = """\
#!/bin/sh
echo "$(basename "$0") $*" >>"$FAKE/calls"
[ -e "$FAKE/unreachable" ] && { echo "Failed to connect to bus: No medium found" >&2; exit 1; }
[ -e "$FAKE/in_chroot" ] && { echo "Running in chroot, ignoring command" >&2; exit 0; }
case "$*" in
  *--property=Version*) echo Version=252 ;;
  *--property=Linger*) cat "$FAKE/linger" 2>/dev/null ;;
  *sollold.socket*--property=ActiveState*)
    cat "$FAKE/socket" 2>/dev/null || echo ActiveState=inactive ;;
  *" show "*) cat "$FAKE/properties" 2>/dev/null ;;
  enable-linger*) [ -e "$FAKE/no_linger" ] && { echo "Access denied" >&2; exit 1; } ;;
  *_SYSTEMD_INVOCATION_ID=abc*) echo "sollold: 127.0.0.1:11434 is taken by nc (pid 7)" ;;
  *" start "*) [ -e "$FAKE/no_start" ] && { echo "Job failed." >&2; exit 1; } ;;
esac
exit 0
"""


class Fake:
    """What the fake programs are told, and what they were asked."""

    def __init__(self, folder: Path, config: Path) -> None:
        self._folder = folder
        self.units = config / "systemd" / "user"
        self.service = self.units / "sollold.service"
        self.socket = self.units / "sollold.socket"

    def set(self, name: str, text: str = "") -> None:
        """Make the fakes behave so."""
        (self._folder / name).write_text(text)

    def done(self) -> list[str]:
        """What was asked that is no mere question, since the last look."""
        calls = self._folder / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return [line for line in lines if " show" not in line and "journalctl" not in line]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    folder = tmp_path / "fake"
    folder.mkdir()
    for name in ("systemctl", "loginctl", "journalctl"):
        program = folder / name
        program.write_text(_SYSTEMCTL)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_COLOR", "1")
    made = Fake(folder, tmp_path / "config")
    made.set("linger", "no\n")
    return made


def test_install_writes_the_unit_and_enables_it(fake: Fake, capsys: Captured) -> None:
    assert run(["service", "install"]) == 0
    said = capsys.readouterr().out
    assert f"written: {fake.service}" in said
    assert "Start it: systemctl --user start sollold.service" in said
    assert f"Turn it on: loginctl enable-linger {user_name()}" in said
    daemon = Path(sys.executable).parent / "sollold"
    assert f"\nExecStart={daemon}\n" in fake.service.read_text()
    assert not fake.socket.exists()
    assert fake.done() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable sollold.service",
    ]


def test_installing_twice_is_as_once(fake: Fake, capsys: Captured) -> None:
    assert run(["service", "install"]) == 0
    before = fake.service.stat()
    capsys.readouterr()
    assert run(["service", "install"]) == 0
    assert f"unchanged: {fake.service}" in capsys.readouterr().out
    assert fake.service.stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in fake.units.iterdir()] == ["sollold.service"]


def test_now_starts_the_socket_first(fake: Fake) -> None:
    assert run(["service", "install", "--socket", "--now"]) == 0
    assert fake.socket.exists()
    assert fake.done() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable sollold.service sollold.socket",
        "systemctl --user start sollold.socket",
        "systemctl --user start sollold.service",
    ]


def test_a_daemon_that_holds_the_addresses_makes_room_for_the_socket(fake: Fake) -> None:
    fake.set("properties", "ActiveState=active\n")
    assert run(["service", "install", "--socket", "--now"]) == 0
    assert fake.done()[2:] == [
        "systemctl --user stop sollold.service",
        "systemctl --user start sollold.socket",
        "systemctl --user start sollold.service",
    ]


def test_a_start_that_fails_is_a_failure(fake: Fake, capsys: Captured) -> None:
    fake.set("no_start")
    assert run(["service", "install", "--now"]) == 1
    said = capsys.readouterr().err
    assert "systemctl --user start sollold.service failed: Job failed." in said
    assert "journalctl --user -u sollold.service" in said


def test_a_start_that_fails_names_what_the_daemon_said(fake: Fake, capsys: Captured) -> None:
    fake.set("no_start")
    fake.set("properties", "InvocationID=abc\nActiveState=failed\n")
    assert run(["service", "install", "--now"]) == 1
    said = capsys.readouterr().err
    assert "sollold: 127.0.0.1:11434 is taken by nc (pid 7)" in said


def test_linger_turns_it_on(fake: Fake, capsys: Captured) -> None:
    assert run(["service", "install", "--linger"]) == 0
    assert fake.done()[-1] == " ".join(linger_argv())
    assert "Lingering is off" not in capsys.readouterr().out


def test_lingering_that_is_not_allowed_names_the_command_for_root(
    fake: Fake, capsys: Captured
) -> None:
    fake.set("no_linger")
    assert run(["service", "install", "--linger"]) == 1
    said = capsys.readouterr().err
    assert "Access denied" in said
    assert f"sudo {' '.join(linger_argv())}" in said


def test_nothing_is_said_of_lingering_that_is_on(fake: Fake, capsys: Captured) -> None:
    fake.set("linger", "yes\n")
    assert run(["service", "install"]) == 0
    assert "Lingering" not in capsys.readouterr().out


def test_an_edited_unit_is_not_replaced(fake: Fake, capsys: Captured) -> None:
    assert run(["service", "install"]) == 0
    edited = fake.service.read_text().replace("RestartSec=2", "RestartSec=7")
    fake.service.write_text(edited)
    fake.done()
    capsys.readouterr()
    assert run(["service", "install"]) == 1
    said = capsys.readouterr().err
    assert "edited since" in said
    assert "systemctl --user edit sollold.service" in said
    assert "--force" in said
    assert fake.service.read_text() == edited
    assert fake.done() == []
    assert run(["service", "install", "--force"]) == 0
    assert "RestartSec=2" in fake.service.read_text()


def test_the_remedy_for_an_edited_unit_of_the_system_is_one_for_root(
    fake: Fake, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sollold.ctl.service._require_open_way", lambda _: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(ServiceManager, "units", fake.units)
    fake.units.mkdir(parents=True)
    fake.service.write_text("[Service]\n")
    assert run(["service", "install", "--system"]) == 1
    said = capsys.readouterr().err
    assert "sudo " in said
    assert "service install --system --force" in said


def test_a_unit_of_an_older_version_is_replaced(fake: Fake) -> None:
    from sollold.ctl.unitfile import unit_text

    older = unit_text("sollold.service", template="[Service]\n", command="/x", is_system=False)
    fake.units.mkdir(parents=True)
    fake.service.write_text(older)
    assert run(["service", "install"]) == 0
    assert "WantedBy=" in fake.service.read_text()


def test_a_masked_unit_is_not_replaced(fake: Fake) -> None:
    fake.units.mkdir(parents=True)
    fake.service.symlink_to("/dev/null")
    assert run(["service", "install"]) == 1
    assert fake.service.is_symlink()
    assert run(["service", "install", "--force"]) == 0
    assert not fake.service.is_symlink()


def test_a_dry_run_does_nothing(fake: Fake, capsys: Captured) -> None:
    assert run(["service", "install", "--socket", "--now", "--linger", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"would be written: {fake.service}" in said
    assert f"would be written: {fake.socket}" in said
    assert "would run: systemctl --user enable sollold.service sollold.socket" in said
    assert fake.done() == []
    assert not fake.units.exists()


@pytest.mark.parametrize("how", ["unreachable", "in_chroot"])
def test_without_a_manager_nothing_is_written(fake: Fake, capsys: Captured, how: str) -> None:
    fake.set(how)
    assert run(["service", "install"]) == 1
    said = capsys.readouterr().err
    assert "no systemd user manager answers here" in said
    assert "Foreground" in said
    assert str(Path(sys.executable).parent / "sollold") in said
    assert not fake.units.exists()
    assert fake.done() == []


def test_without_systemd_nothing_is_written(
    fake: Fake, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert run(["service", "install"]) == 1
    assert "there is no systemctl here" in capsys.readouterr().err
    assert not fake.units.exists()


def test_units_of_the_system_are_for_root(
    fake: Fake, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for verb in ("install", "uninstall"):
        assert run(["service", verb, "--system"]) == 1
        assert f" service {verb} --system" in capsys.readouterr().err
    assert fake.done() == []


def test_a_folder_that_cannot_be_written_is_named(fake: Fake, capsys: Captured) -> None:
    fake.units.parent.parent.mkdir(parents=True)
    fake.units.parent.write_text("not a folder")
    assert run(["service", "install"]) == 1
    assert f"{fake.service} cannot be written" in capsys.readouterr().err


def test_json_is_one_document(fake: Fake, capsys: Captured) -> None:
    assert run(["service", "install", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["manager"] == "user"
    assert document["files"] == [{"path": str(fake.service), "change": "written"}]
    assert document["commands"][0] == ["systemctl", "--user", "daemon-reload"]
    assert document["lingering"] is False
    fake.set("unreachable")
    assert run(["service", "install", "--json"]) == 1
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "no_systemd"


def test_uninstall_removes_what_install_wrote(fake: Fake, capsys: Captured) -> None:
    assert run(["service", "install", "--socket"]) == 0
    fake.done()
    assert run(["service", "uninstall"]) == 0
    assert f"removed: {fake.service}" in capsys.readouterr().out
    assert list(fake.units.iterdir()) == []
    assert fake.done() == [
        "systemctl --user disable --now sollold.socket sollold.service",
        "systemctl --user daemon-reload",
    ]
    assert run(["service", "uninstall"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert fake.done() == []


def test_uninstall_keeps_what_people_wrote(fake: Fake, capsys: Captured) -> None:
    assert run(["service", "install", "--socket"]) == 0
    fake.service.write_text("[Service]\nExecStart=/mine\n")
    drop_ins = fake.units / "sollold.socket.d"
    drop_ins.mkdir()
    fake.done()
    capsys.readouterr()
    assert run(["service", "uninstall"]) == 0
    said = capsys.readouterr().out
    assert f"kept: {fake.service}" in said
    assert f"kept: {drop_ins}" in said
    assert fake.service.exists()
    assert not fake.socket.exists()
    assert fake.done()[0] == "systemctl --user disable --now sollold.socket"
    assert run(["service", "uninstall", "--force"]) == 0
    assert not fake.service.exists()
    assert drop_ins.exists()


@pytest.mark.parametrize("edited", ["sollold.service", "sollold.socket"])
def test_uninstall_ends_what_was_edited_and_keeps_only_its_file(fake: Fake, edited: str) -> None:
    assert run(["service", "install", "--socket"]) == 0
    with (fake.units / edited).open("a") as file:
        file.write("# mine\n")
    fake.done()
    assert run(["service", "uninstall"]) == 0
    assert fake.done()[0] == "systemctl --user disable --now sollold.socket sollold.service"
    assert [path.name for path in fake.units.iterdir()] == [edited]


def test_uninstall_leaves_no_socket_that_starts_what_is_gone(fake: Fake) -> None:
    assert run(["service", "install"]) == 0
    fake.socket.write_text("[Socket]\nListenStream=1\n")
    fake.done()
    assert run(["service", "uninstall"]) == 0
    assert fake.done()[0] == "systemctl --user disable --now sollold.socket sollold.service"
    assert fake.socket.exists()


def test_uninstall_ends_a_unit_whose_file_is_gone(fake: Fake, capsys: Captured) -> None:
    wants = fake.units / "default.target.wants"
    wants.mkdir(parents=True)
    (wants / "sollold.service").symlink_to(fake.service)
    fake.set("properties", "ActiveState=active\n")
    assert run(["service", "uninstall"]) == 0
    assert not (wants / "sollold.service").is_symlink()
    assert fake.done() == [
        "systemctl --user stop sollold.service",
        "systemctl --user daemon-reload",
    ]
    said = capsys.readouterr().out
    assert "waiting for running requests, up to 30 s" in said
    assert "nothing to do" not in said


def test_uninstall_says_how_to_remove_what_it_keeps(fake: Fake, capsys: Captured) -> None:
    fake.units.mkdir(parents=True)
    fake.service.write_text("[Service]\nExecStart=/mine\n")
    assert run(["service", "uninstall"]) == 0
    command = f"systemctl --user disable --now sollold.service && rm {fake.service} && "
    assert f"  {command}systemctl --user daemon-reload" in capsys.readouterr().out


def test_uninstall_without_a_manager_removes_files(fake: Fake) -> None:
    assert run(["service", "install"]) == 0
    fake.done()
    fake.set("unreachable")
    assert run(["service", "uninstall"]) == 0
    assert not fake.service.exists()
    assert fake.done() == []


def test_status_says_how_it_is(fake: Fake, capsys: Captured) -> None:
    assert run(["service", "install"]) == 0
    fake.set(
        "properties",
        "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n"
        "StatusText=2 of 2 nodes usable, 0 running, 0 queued\nMainPID=17\n",
    )
    capsys.readouterr()
    assert run(["service", "status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    off = f"off: it ends when you log out. Turn it on: loginctl enable-linger {user_name()}"
    assert lines == [
        "sollold.service (user)  active (running), enabled",
        "  says       2 of 2 nodes usable, 0 running, 0 queued",
        f"  unit       installed: {fake.service}",
        f"  socket     absent: {fake.socket}",
        f"  lingering  {off}",
    ]
    assert run(["service", "status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["active"], document["pid"], document["socket"]) == ("active", 17, "absent")


@pytest.mark.parametrize("state", ["failed", "inactive", "active"])
def test_status_names_a_socket_that_does_not_listen(
    fake: Fake, capsys: Captured, state: str
) -> None:
    assert run(["service", "install", "--socket"]) == 0
    fake.set("properties", "ActiveState=active\nSubState=running\n")
    fake.set("socket", f"ActiveState={state}\nResult=service-start-limit-hit\n")
    capsys.readouterr()
    assert run(["service", "status"]) == 0
    said = capsys.readouterr().out
    reset = "systemctl --user reset-failed sollold.socket sollold.service"
    assert (reset in said) == (state == "failed")
    assert ("systemctl --user restart sollold.service" in said) == (state != "active")
    assert ("it is failed (service-start-limit-hit): the addr" in said) == (state == "failed")
    assert run(["service", "status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["socket_active"] == state


def test_root_is_told_of_the_service_of_the_system_when_there_is_no_other(
    fake: Fake, capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    units = tmp_path / "system"
    units.mkdir()
    (units / "sollold.service").touch()
    made = functools.partial(ServiceManager, system_units=units)
    monkeypatch.setattr("sollold.ctl.manager.ServiceManager", made)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    run(["service", "status"])
    assert "sollold.service (system)" in capsys.readouterr().out
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    run(["service", "status"])
    assert "sollold.service (user)" in capsys.readouterr().out


def test_help_lists_only_options_that_mean_something(capsys: Captured) -> None:
    for words in (["service"], ["service", "install"], ["service", "status"]):
        assert run([*words, "--help"]) == 0
        said = capsys.readouterr().out
        assert "--json" in said
        assert not {"--sort", "--columns", "--url", "--watch"} & set(said.split())


def test_help_cuts_no_sentence(capsys: Captured) -> None:
    assert run(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "on any mistake the old one stays." in said
    assert "..." not in said.partition("Commands:")[2].partition("Options:")[0]


def test_status_of_what_does_not_run_is_exit_code_1(fake: Fake, capsys: Captured) -> None:
    fake.set("properties", "LoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\n")
    assert run(["service", "status"]) == 1
    assert "inactive (dead), disabled" in capsys.readouterr().out
    fake.set("unreachable")
    assert run(["service", "status"]) == 1
    assert "no manager answers: Failed to connect to bus" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["install", "uninstall", "status"])
def test_help_has_three_examples_that_can_be_typed(name: str, capsys: Captured) -> None:
    command = service_group.commands[name]
    assert isinstance(command, Command)
    assert len(command.examples) == 3
    for example in command.examples:
        words = example.split()
        assert words[:3] == ["sollolctl", "service", name]
        command.make_context(name, words[3:])
    assert run(["service", name, "--help"]) == 0
    assert "Examples:" in capsys.readouterr().out
