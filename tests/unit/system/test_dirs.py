from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sollold.system.dirs import DirectoryError, find_dirs, prepare


def test_xdg_directories_come_first() -> None:
    dirs = find_dirs(
        {
            "HOME": "/home/me",
            "XDG_CONFIG_HOME": "/c",
            "XDG_STATE_HOME": "/s",
            "XDG_RUNTIME_DIR": "/run/user/7",
        },
        uid=7,
    )
    assert dirs.config_files == (Path("/etc/sollold/sollold.toml"), Path("/c/sollold/sollold.toml"))
    assert dirs.state == Path("/s/sollold")
    assert dirs.runtime == Path("/run/user/7/sollold")
    assert dirs.control_socket == Path("/run/user/7/sollold/control.sock")
    assert dirs.lock_file == Path("/run/user/7/sollold/lock")


def test_without_them_the_usual_places_below_home_are_used() -> None:
    dirs = find_dirs({"HOME": "/home/me"}, uid=7)
    assert dirs.config_files[1] == Path("/home/me/.config/sollold/sollold.toml")
    assert dirs.state == Path("/home/me/.local/state/sollold")
    assert dirs.runtime == Path("/tmp/sollold-7")


def test_systemd_beats_xdg_and_its_first_directory_counts() -> None:
    dirs = find_dirs(
        {
            "HOME": "/home/me",
            "XDG_RUNTIME_DIR": "/run/user/7",
            "XDG_STATE_HOME": "/s",
            "RUNTIME_DIRECTORY": "/run/a:/run/b",
            "STATE_DIRECTORY": "/var/lib/a",
            "CONFIGURATION_DIRECTORY": "/etc/other",
        },
        uid=7,
    )
    assert dirs.runtime == Path("/run/a")
    assert dirs.state == Path("/var/lib/a")
    assert dirs.config_files[0] == Path("/etc/other/sollold.toml")


def test_root_without_a_session_uses_run() -> None:
    assert find_dirs({"HOME": "/root"}, uid=0).runtime == Path("/run/sollold")


def test_relative_directories_are_ignored_as_the_specification_says() -> None:
    dirs = find_dirs(
        {"HOME": "/home/me", "XDG_CONFIG_HOME": "c", "XDG_STATE_HOME": "", "XDG_RUNTIME_DIR": "r"},
        uid=7,
    )
    assert dirs == find_dirs({"HOME": "/home/me"}, uid=7)


def test_without_home_the_user_database_is_asked() -> None:
    assert find_dirs({}, uid=0).state == Path("/root/.local/state/sollold")
    assert find_dirs({}, uid=4_000_000_000).state == Path("/.local/state/sollold")


def test_this_user_is_the_default() -> None:
    expected = Path("/run/sollold") if os.getuid() == 0 else Path(f"/tmp/sollold-{os.getuid()}")
    assert find_dirs({"HOME": "/x"}).runtime == expected


def test_a_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    prepare(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    (directory / "kept").touch()
    directory.chmod(0o755)
    prepare(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (directory / "kept").exists()


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    directory = tmp_path / "squatted"
    directory.mkdir()
    with pytest.raises(DirectoryError, match=rf"belongs to user {os.getuid()}, not to 7") as caught:
        prepare(directory, uid=7)
    assert caught.value.exit_code == 75
    assert "XDG_RUNTIME_DIR" in caught.value.message


@pytest.mark.skipif(os.getuid() != 0, reason="giving a link away takes root")
def test_a_link_laid_by_somebody_else_is_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir()
    link.symlink_to(target)
    prepare(link)
    os.lchown(link, 7, 7)
    with pytest.raises(DirectoryError, match="belongs to user 7"):
        prepare(link)


@pytest.mark.skipif(os.getuid() != 0, reason="giving a directory away takes root")
def test_a_link_laid_by_the_service_manager_is_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "private", tmp_path / "sollold"
    target.mkdir(mode=0o700)
    os.chown(target, 7, 7)
    link.symlink_to(target)
    prepare(link, uid=7)


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DirectoryError, match="cannot be created"):
            prepare(path)
