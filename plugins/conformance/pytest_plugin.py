"""The conformance kit as a pytest base class: each check a test, beside a plugin's own tests on the same sandbox.

    class TestAcmeDesk(ConformanceSuite):
        tool_type = "acme_desk"

With `path`, the folder of a plugin that is not installed. This module alone needs pytest, with pytest-asyncio in its mode "auto".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest

from plugins.api import PluginContext, TicketingToolPlugin
from plugins.conformance.check import Check, all_checks
from plugins.conformance.receiver import Receiver
from plugins.conformance.run import outcome_of
from plugins.conformance.stand import as_written, require_settings, sandbox_of, settings_of
from plugins.conformance.subject import Subject
from plugins.http.client import ApiClient
from plugins.sandbox.server import SandboxProcess


@cache
def _found(tool_type: str, path: Path | None) -> Subject:
    """Looked for once: every manifest is read for it, and there is a test for each check."""
    return Subject.at(path) if path is not None else Subject.find(tool_type)


class ConformanceSuite:
    """Subclassed as Test… with `tool_type` or `path`. Its fixtures serve a subclass's own tests: the sandbox is shared by a class."""

    tool_type: ClassVar[str] = ""
    path: ClassVar[Path | None] = None

    @classmethod
    def subject(cls) -> Subject:
        """The plugin under test."""
        return _found(cls.tool_type, cls.path)

    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls) -> Iterator[SandboxProcess]:
        """The plugin's sandbox, in a process of its own."""
        with sandbox_of(cls.subject()) as sandbox:
            require_settings(cls.subject(), sandbox)
            yield sandbox

    @pytest.fixture(autouse=True)
    def calm(self, sandbox: SandboxProcess) -> Iterator[None]:
        """No fault of one test is met by the next."""
        yield
        sandbox.clear_faults()
        sandbox.fault(index_lag=0.0)

    @pytest.fixture
    async def plugin(self, sandbox: SandboxProcess) -> AsyncIterator[TicketingToolPlugin]:
        """The plugin, bound to the sandbox without a proxy between."""
        client = ApiClient(sandbox.base_url)
        yield self.bound(sandbox, client)
        await client.aclose()

    @pytest.fixture
    async def receiver(self, sandbox: SandboxProcess) -> AsyncIterator[Receiver]:
        """Gets the sandbox's webhooks for the length of a test."""
        receiver = Receiver()
        await receiver.start()
        sandbox.set_webhook(receiver.url)
        yield receiver
        sandbox.set_webhook("")
        await receiver.stop()

    def bound(self, sandbox: SandboxProcess, client: ApiClient, **more: Any) -> TicketingToolPlugin:
        """The plugin with settings for this sandbox; `more` is laid over them."""
        subject = self.subject()
        settings = {"base_url": sandbox.base_url, **settings_of(subject, sandbox), **more}
        return subject.kind(PluginContext(tenant="acme", tool="target", settings=settings, secrets=as_written, http=lambda: client))

    @pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.name)
    async def test_conformance(self, sandbox: SandboxProcess, check: Check) -> None:
        """Each check's one sentence says why it matters; docs/conformance.md has them all."""
        outcome = await outcome_of(check, self.subject(), sandbox)
        if outcome.result == "not applicable":
            pytest.skip(outcome.detail)
        assert outcome.result == "passed", f"{outcome.detail}\nwhy: {outcome.why}\nsee: {outcome.docs}"
