"""Faults on demand: what the next API calls meet. Armed by `POST /_faults`, used up in order."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from plugins.sandbox.http import Request


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault for the next `times` API calls that match `method` and begin with `path`, where these are given.

    `status` (with `retry_after` seconds) answers in the tool's own form; `delay` seconds come before the call is worked on;
    `reset` breaks the connection; `half_body` cuts the answer. `when` says whether the call's effect happens: a status comes
    before it, a broken connection after it, unless told otherwise. `index_lag` sets the sandbox's lag, for good.
    """

    times: int = 1
    status: int | None = None
    retry_after: float | None = None
    delay: float = 0.0
    reset: bool = False
    half_body: bool = False
    when: Literal["before", "after"] | None = None
    method: str | None = None
    path: str | None = None
    index_lag: float | None = None

    @property
    def before(self) -> bool:
        """Whether the call is turned away before it has an effect."""
        if self.half_body:  # half of an answer needs an answer
            return False
        return (self.when or ("before" if self.status is not None else "after")) == "before"

    def matches(self, request: Request) -> bool:
        return (self.method in (None, request.method)) and (self.path is None or request.path.startswith(self.path))


class Faults:
    """The armed faults, oldest first."""

    def __init__(self) -> None:
        self.armed: list[Fault] = []

    def arm(self, body: bytes) -> Fault:
        """Arms what a request's body describes; raises msgspec.DecodeError or ValidationError for what is no fault."""
        fault = msgspec.json.decode(body, type=Fault)
        if fault.times > 0 and (fault.status is not None or fault.delay or fault.reset or fault.half_body):
            self.armed.append(fault)
        return fault

    def take(self, request: Request) -> Fault | None:
        """The fault this call meets."""
        for fault in self.armed:
            if fault.matches(request):
                fault.times -= 1
                if fault.times <= 0:
                    self.armed.remove(fault)
                return fault
        return None

    def shown(self) -> list[Any]:
        return [msgspec.to_builtins(fault) for fault in self.armed]
