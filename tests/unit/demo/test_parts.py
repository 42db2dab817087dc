"""What the demo looks for before it starts anything."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from sollold.demo import parts
from sollold.demo.failure import DemoFailed

_ROOT = Path(__file__).resolve().parents[3]
_LISTING = """\
\tlinux-vdso.so.1 (0x00007f8c064e0000)
\tlibllama.so.0 => /x/bin/libllama.so.0 (0x00007f8c05e00000)
\tlibgomp.so.1 => not found
\tlibstrange.so.3 => not found
\tlibgomp.so.1 => not found
\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f8c05a00000)
"""


def test_the_extra_lists_what_the_demo_looks_for() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]

    assert tuple(project["optional-dependencies"]["demo"]) == parts.REQUIREMENTS


def test_missing_wheels_are_told_with_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "missing", lambda: ["engine==1"])

    with pytest.raises(DemoFailed) as told:
        parts.check_extra()

    assert "./install.sh --demo" in told.value.message
    assert told.value.message.endswith("-m pip install engine==1")
    assert "300 MB" in told.value.message
    assert "300 MB" in (_ROOT / "install.sh").read_text()


def test_another_version_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "REQUIREMENTS", ("click==0.0.1", "no-such-thing-here==1.0"))

    assert parts.missing() == ["click==0.0.1", "no-such-thing-here==1.0"]


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64")])
def test_other_platforms_are_told(system: str, machine: str) -> None:
    with pytest.raises(DemoFailed, match=f"this is {system} on {machine}"):
        parts.check_platform(system, machine)


def test_linux_on_x86_64_is_fine() -> None:
    parts.check_platform("Linux", "x86_64")


def test_a_processor_without_the_engines_instructions_is_told() -> None:
    complaint = parts.processor_complaint("model name\t: old\nflags\t\t: fpu sse4_2 avx f16c\n")

    assert "a processor with AVX2, BMI2, F16C, FMA" in complaint
    assert complaint.endswith("this one has no AVX2, BMI2, FMA")


@pytest.mark.parametrize("cpuinfo", ["flags : fpu f16c fma avx2 bmi2 avx512f\n", "", "flags\n"])
def test_a_processor_that_is_fit_or_unknown_is_fine(cpuinfo: str) -> None:
    assert parts.processor_complaint(cpuinfo) == ""


@pytest.mark.parametrize("said", ["glibc 2.34", "glibc 1.99", "", "musl"])
def test_an_unfit_c_library_is_told(said: str) -> None:
    complaint = parts.libc_complaint(said)

    assert "glibc 2.35 or later" in complaint
    assert complaint.endswith(f"this system has {said or 'another C library'}")


@pytest.mark.parametrize("said", ["glibc 2.35", "glibc 2.100", "glibc 3.0"])
def test_a_recent_c_library_is_fine(said: str) -> None:
    assert parts.libc_complaint(said) == ""


def test_an_unfit_machine_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : fpu\n")
    monkeypatch.setattr(parts, "check_platform", lambda: None)
    monkeypatch.setattr(parts, "_own_libc", lambda: "glibc 2.36")
    monkeypatch.setattr(parts, "_CPUINFO", cpuinfo)

    with pytest.raises(DemoFailed, match="this one has no AVX2"):
        parts.check_machine()


def test_missing_libraries_are_named_once_with_their_packages() -> None:
    complaint = parts.library_complaint(_LISTING)

    assert "needs libgomp.so.1, libstrange.so.3, which" in complaint
    assert complaint.endswith("apt-get install libgomp1")


def test_a_library_of_no_known_package_is_only_named() -> None:
    complaint = parts.library_complaint("\tlibstrange.so.3 => not found\n")

    assert "libstrange.so.3" in complaint
    assert "apt-get" not in complaint


def test_a_system_that_is_too_old_is_told() -> None:
    line = "/lib/libc.so.6: version `GLIBC_2.38' not found (required by /x/llama-server)\n"

    assert parts.library_complaint(line * 2).endswith("which needs GLIBC_2.38")


def test_nothing_missing_is_no_complaint() -> None:
    assert parts.library_complaint("\tlibm.so.6 => /lib/libm.so.6 (0x0)\n") == ""


def test_a_real_program_has_its_libraries() -> None:
    parts.check_libraries(parts.Engine(Path("/bin/ls"), {}))


def test_what_cannot_be_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match="cannot be run"):
        parts.check_libraries(parts.Engine(tmp_path / "absent", {}))


def test_damaged_wheels_are_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_ENGINE_MODULE", "json")
    monkeypatch.setattr(parts, "_MODEL_MODULE", "json")

    with pytest.raises(DemoFailed, match=f"--force-reinstall {parts.REQUIREMENTS[0]}"):
        parts.find_engine({})
    with pytest.raises(DemoFailed, match=f"--force-reinstall {parts.REQUIREMENTS[1]}"):
        parts.find_model()
