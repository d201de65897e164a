"""Sandboxes as a tenant's tools: started side by side, and described as a tenant's file describes tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from plugins.manifest import PluginManifest
from plugins.sandbox.process import SandboxProcess

Keep = Callable[[str, str], str]
"""Takes a secret's name and value, and answers the reference that stands for it in a file."""


def start_all(stack: ExitStack, tool_types: Sequence[str], options: Callable[[str], dict[str, Any]]) -> list[SandboxProcess]:
    """Starts a sandbox of each type at once, in their order; all end with the stack, also when one does not start."""
    made = [SandboxProcess(tool_type, **options(tool_type)) for tool_type in tool_types]
    for sandbox in made:
        stack.callback(sandbox.stop)
    with ThreadPoolExecutor(len(made) or 1) as threads:
        for started in [threads.submit(sandbox.start) for sandbox in made]:
            started.result()
    return made


def tool_of(sandbox: SandboxProcess, manifest: PluginManifest, keep: Keep) -> dict[str, Any]:
    """The tool's settings as a tenant's file has them; what the plugin calls a secret is kept and stands there as a reference."""

    def shown(section: str, values: dict[str, Any]) -> dict[str, Any]:
        prefix = "hook_" if section == "webhook" else ""
        return {k: keep(prefix + k, str(v)) if manifest.settings[f"{section}.{k}"].secret else v for k, v in values.items()}

    told = {name: value for name, value in sandbox.credentials.items() if name in manifest.settings}
    return {
        "type": sandbox.tool_type,
        "base_url": sandbox.base_url,
        "auth": shown("auth", sandbox.credentials["auth"]),
        "webhook": shown("webhook", sandbox.webhook),
        **told,
    }
