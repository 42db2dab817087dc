"""Contexts are made once, and again when a reload asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sollold.nodes.tls import TlsContexts, Trust
from tests.fakes.certificates import TestAuthority

if TYPE_CHECKING:
    from pathlib import Path


async def made(contexts: TlsContexts, trust: Trust) -> object:
    await contexts.prepare(trust)
    return contexts.known(trust)


@pytest.mark.parametrize("has_file", [True, False])
async def test_a_reload_reads_the_authorities_again(tmp_path: Path, *, has_file: bool) -> None:
    file = TestAuthority().write(tmp_path / "ca.pem")
    trust = Trust(ca_file=str(file)) if has_file else Trust()
    contexts = TlsContexts()
    first = await made(contexts, trust)
    assert await made(contexts, trust) is first

    contexts.reread()

    # Who connects meanwhile has the one there is.
    assert contexts.known(trust) is first
    second = await made(contexts, trust)
    assert second is not first
    assert await made(contexts, trust) is second


async def test_a_pin_is_no_file() -> None:
    trust = Trust(pin=b"x" * 32)
    contexts = TlsContexts()
    first = await made(contexts, trust)
    contexts.reread()
    assert await made(contexts, trust) is first
