"""The front-end files of others in `static/vendor`, and the table of where they come from.

`python -m tests.docs.vendor` takes them again from the npm registry, through the npm client;
`python -m tests.docs.vendor idiomorph=0.8.1` moves one of them to another version. By hand only:
nothing is downloaded when sollold is built, tested or run.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

import msgspec

VENDOR = Path(__file__).resolve().parents[2] / "static" / "vendor"
TABLE = "manifest.toml"
REMEDY = "run: python -m tests.docs.vendor"

_HEAD = f"""\
# Front-end files of others, served as they are. `licences` are files too; `integrity` is the
# registry's word for the archive that all of them were taken from. To take other versions,
# {REMEDY} NAME=VERSION
"""


class Package(msgspec.Struct, kw_only=True):
    """One package, and what is taken of it: its own paths by the names that files have here."""

    name: str
    version: str
    licence: str
    """SPDX."""
    source: str
    integrity: str
    licences: list[str]
    paths: dict[str, str]
    sha256: dict[str, str]


class Manifest(msgspec.Struct):
    """The table."""

    package: list[Package]


def read(folder: Path = VENDOR) -> list[Package]:
    """Return the table of `folder`."""
    table = tomllib.loads((folder / TABLE).read_text("utf-8"))
    return msgspec.convert(table, Manifest).package


def faults(folder: Path = VENDOR) -> list[str]:
    """Return what is wrong with the files of `folder`."""
    found = []
    listed = {TABLE}
    for package in read(folder):
        if not package.licences:
            found.append(f"{package.name}: no licence text is listed")
        found += [
            f"{package.name}: {name} has no path or no hash"
            for name in {*package.licences, *package.paths} ^ {*package.sha256}
        ]
        for name, expected in package.sha256.items():
            place = f"{package.name}/{name}"
            listed.add(place)
            found += _file_faults(folder / place, place, expected)
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return found + [f"{place}: nobody knows where it comes from" for place in present - listed]


def _file_faults(path: Path, place: str, expected: str) -> list[str]:
    if not path.is_file():
        return [f"{place}: missing"]
    content = path.read_bytes()
    if not content.strip():
        return [f"{place}: empty"]
    return [] if hashlib.sha256(content).hexdigest() == expected else [f"{place}: changed"]


def refresh(folder: Path, versions: dict[str, str]) -> None:
    """Take every package again, some in other versions, and write the table anew."""
    packages = read(folder)
    for package in packages:
        package.version = versions.pop(package.name, package.version)
        _take(package, folder / package.name)
    if versions:
        raise SystemExit(f"not in the table: {', '.join(versions)}")
    (folder / TABLE).write_text(_HEAD + "".join(map(_rows, packages)), "utf-8")


def _take(package: Package, target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        archive = _pack(f"{package.source.removeprefix('npm:')}@{package.version}", Path(scratch))
        digest = hashlib.sha512(archive.read_bytes()).digest()
        package.integrity = f"sha512-{base64.b64encode(digest).decode()}"
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        package.sha256 = {}
        for name, path in sorted(package.paths.items()):
            content = (Path(scratch) / "package" / path).read_bytes()
            (target / name).write_bytes(content)
            package.sha256[name] = hashlib.sha256(content).hexdigest()


def _pack(name: str, scratch: Path) -> Path:
    """Return the archive of a package; the client compares it with the registry's integrity."""
    subprocess.run(["npm", "pack", "--silent", name], cwd=scratch, check=True)
    (archive,) = scratch.glob("*.tgz")
    return archive


def _rows(package: Package) -> str:
    lines = ["", "[[package]]"]
    for field in ("name", "version", "licence", "source", "integrity"):
        lines.append(f'{field} = "{getattr(package, field)}"')
    licences = ", ".join(f'"{name}"' for name in package.licences)
    lines.append(f"licences = [{licences}]")
    for table in ("paths", "sha256"):
        lines.append(f"[package.{table}]")
        lines += [f'"{name}" = "{text}"' for name, text in sorted(getattr(package, table).items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    refresh(VENDOR, dict(word.split("=", 1) for word in sys.argv[1:]))
    for fault in faults():
        print(fault)
