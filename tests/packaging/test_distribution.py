"""What people get: complete, importable without warnings, and the same from sdist and tree."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sollold import __version__
from tests.docs import vendor
from tests.packaging.machine import ROOT, succeed

if TYPE_CHECKING:
    from tests.packaging.conftest import Built, Installed

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

# Each module in a child of its own: an import that works only after another one fails here.
_IMPORT_EACH_ALONE = """
import os, sys
failed = 0
for name in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        try:
            __import__(name)
        except BaseException as error:
            print(f"{name}: {error!r}", flush=True)
            os._exit(1)
        os._exit(0)
    failed += os.waitpid(pid, 0)[1] != 0
sys.exit(failed > 0)
"""

# Folder of the tree, and where the wheel has it.
_SHIPPED_FOLDERS = {
    "sollold": "sollold",
    "static": "sollold/static",
    "etc": "sollold/share/etc",
    "systemd": "sollold/share/systemd",
}


def test_the_wheel_holds_every_file_of_the_shipped_folders(built: Built) -> None:
    expected = {
        f"{target}/{path.relative_to(ROOT / folder)}"
        for folder, target in _SHIPPED_FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    missing = expected - _wheel_names(built.wheel)

    assert not missing
    assert "sollold/share/etc/sollold.toml" in expected


def test_licences_of_others_are_shown_with_the_distribution(built: Built) -> None:
    info = f"sollold-{__version__}.dist-info/licenses"
    expected = {
        f"{info}/static/vendor/{package.name}/{name}"
        for package in vendor.read()
        for name in package.licences
        if name.startswith(("LICENSE", "NOTICE"))
    }

    assert expected | {f"{info}/LICENSE"} <= _wheel_names(built.wheel)


def test_an_installation_serves_its_own_files(installed: Installed) -> None:
    code = (
        "from sollold.system.shipped import shipped; from sollold.web.static import StaticFiles;"
        "print(shipped('static'), StaticFiles.read(shipped('static')).url('vendor/manifest.toml'))"
    )
    python = installed.bin_dir / "python"

    folder, url = succeed([python, "-c", code], env=installed.env, cwd=Path("/")).split()

    assert Path(folder).parts[-3:] == ("site-packages", "sollold", "static")
    assert url.startswith("static/vendor/manifest.toml?v=")


def test_the_wheel_holds_nothing_else(built: Built) -> None:
    tops = {name.split("/")[0] for name in _wheel_names(built.wheel)}

    assert tops == {"sollold", f"sollold-{__version__}.dist-info"}
    assert not [name for name in _wheel_names(built.wheel) if "__pycache__" in name]


def test_the_sdist_gives_the_same_wheel(built: Built, wheel_from_sdist: Path) -> None:
    assert _wheel_names(wheel_from_sdist) == _wheel_names(built.wheel)


def test_the_sdist_can_install_and_test_itself(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert names >= {"install.sh", "LICENSE", "README.md", "pyproject.toml", "tests/run"}


def test_every_module_imports_alone_and_without_warnings(installed: Installed) -> None:
    python = installed.bin_dir / "python"
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "sollold").rglob("*.py")
    ]
    assert "sollold" in modules

    succeed(
        [python, "-W", "error", "-c", _IMPORT_EACH_ALONE, *modules],
        env=installed.env,
        cwd=Path("/"),
    )


@pytest.mark.parametrize("command", ["sollold", "sollolctl"])
def test_a_command_says_its_version(installed: Installed, command: str) -> None:
    said = succeed([installed.bin_dir / command, "--version"], env=installed.env, cwd=Path("/"))

    assert __version__ in said.split()[-1]


def _wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())
