"""A sandbox in a process of its own, from Python: started, asked and ended. For tests, the demo and chaos."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

START_SECONDS = 20.0


class SandboxFailed(Exception):
    """The sandbox did not start, or refused a control call."""


class SandboxProcess:
    """A context manager around `python -m plugins.sandbox TOOL_TYPE`; the child ends with its parent. Blocking.

    In place of a tool type, module:Class names the sandbox of a plugin that is not installed, `import_from` the folder it is
    imported from. Options: port, state (a file), index_lag (seconds), webhook_url.
    """

    def __init__(self, tool_type: str, *, import_from: Path | None = None, **options: Any) -> None:
        self.tool_type = tool_type
        self._import_from = import_from
        self._options = options
        self._child: subprocess.Popen[bytes] | None = None
        self.base_url = ""
        self.credentials: dict[str, Any] = {}
        self.webhook: dict[str, Any] = {}

    def start(self) -> SandboxProcess:
        """Starts it and waits until it listens."""
        command = [sys.executable, "-P", "-m", "plugins.sandbox", self.tool_type, "--with-parent"]
        for name, value in self._options.items():
            if value is not None:
                command += [f"--{name.replace('_', '-')}", str(value)]
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(str(p) for p in (root, self._import_from, os.environ.get("PYTHONPATH")) if p)
        environment = {**os.environ, "PYTHONPATH": path}
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)  # noqa: S603 - ours
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], START_SECONDS)
        line = self._child.stdout.readline() if ready else b""
        if not line:
            self.stop()
            raise SandboxFailed(f"the {self.tool_type} sandbox did not start; see its words on stderr")
        introduction = json.loads(line)
        self.base_url = introduction["base_url"]
        self.credentials, self.webhook = introduction["credentials"], introduction["webhook"]
        return self

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def pause(self) -> None:
        """Stops it in its tracks: a tool that hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Ends it without notice; with a state file, another start goes on where it was."""
        if self._child is not None:
            self._child.kill()
        self.stop()

    def stop(self) -> None:
        """Ends it; twice is once."""
        child, self._child = self._child, None
        if child is None:
            return
        if child.poll() is None:
            child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> SandboxProcess:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # control calls -----------------------------------------------------------------------------------------------------
    def ledger(self, after: int = 0) -> list[dict[str, Any]]:
        """Every effect so far, oldest first."""
        rows: list[dict[str, Any]] = self._control("GET", f"/_ledger?after={after}")
        return rows

    def fault(self, **fault: Any) -> None:
        """Arms a fault: status, retry_after, times, delay, reset, half_body, when, method, path, index_lag."""
        self._control("POST", "/_faults", fault)

    def clear_faults(self) -> None:
        self._control("DELETE", "/_faults")

    def set_webhook(self, url: str) -> None:
        """Where webhooks go from now on."""
        self._control("POST", "/_webhook", {"url": url})

    def health(self) -> dict[str, Any]:
        """Its webhook counts among others."""
        answer: dict[str, Any] = self._control("GET", "/_health")
        return answer

    def person_creates(self, **fields: Any) -> str:
        """A person opens a ticket, in canonical words; answers its id."""
        return str(self._control("POST", "/_people/tickets", fields)["ticket_id"])

    def person_updates(self, ticket_id: str, **fields: Any) -> None:
        """A person changes a ticket, or comments on it (`comment`, `public`)."""
        self._control("PUT", f"/_people/tickets/{ticket_id}", fields)

    def redeliver(self, count: int) -> int:
        """Sends the newest delivered webhooks again; answers how many."""
        return int(self._control("POST", "/_redeliver", {"count": count})["redelivered"])

    def deliver(self, body: str) -> None:
        """Sends any text as a webhook, correctly signed."""
        self._control("POST", "/_deliver", {"body": body})

    def _control(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base_url + path, data=data, method=method)  # noqa: S310 - our own child
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:  # noqa: S310 - our own child
                return json.loads(answer.read())
        except urllib.error.HTTPError as exc:
            raise SandboxFailed(f"{method} {path} answered {exc.code}: {exc.read(500).decode(errors='replace')}") from None
