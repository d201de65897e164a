"""A sandbox in this process, on a loop of its own thread: the same calls and controls over sockets, its lines seen by coverage."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from plugins.sandbox.process import START_SECONDS, SandboxProcess
from plugins.sandbox.server import load


class SandboxThread(SandboxProcess):
    """Stands in for SandboxProcess where no test kills or pauses it."""

    def start(self) -> SandboxThread:
        self._sandbox = load(self.tool_type)(**self._options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._in_loop(self._sandbox.start())
        told = self._sandbox.introduction()
        self.base_url, self.credentials, self.webhook = told["base_url"], told["credentials"], told["webhook"]
        return self

    def stop(self) -> None:
        if not self._loop.is_closed():
            self._in_loop(self._sandbox.stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(START_SECONDS)
            self._loop.close()

    def _in_loop(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)
