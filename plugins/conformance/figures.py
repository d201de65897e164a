"""What is measured of a plugin for its report card: how long it takes to load, to verify and to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from plugins.api import NotADelivery, PluginContext, PluginError
from plugins.conformance.checks.parsing import delivery_of
from plugins.conformance.subject import Subject

ROUNDS = 1_500

PROBE = """
import json, sys, time
warm, entry, tool_type = sys.argv[1] == "warm", sys.argv[2], sys.argv[3]
if warm:
    import plugins.api, plugins.mapping, plugins.webhook, plugins.marker, plugins.registry, plugins.richtext
began = time.perf_counter()
from plugins.registry import load_class
kind = load_class(entry)
took = time.perf_counter() - began
heavy = [name for name in ("httpx", "aiohttp", "requests", "ldap3", "jwt", "cryptography", "pydantic", "yaml") if name in sys.modules]
print(json.dumps({"ms": took * 1000, "heavy": heavy}))
"""


def load_probe(subject: Subject, *, warm: bool) -> tuple[float, list[str]]:
    """Milliseconds to import the plugin in a fresh interpreter, and the heavy libraries it brought in.

    `warm`: what the host has loaded anyway is there. Cold: nothing is, but the compiled files are on disk.
    """
    path = os.pathsep.join(str(p) for p in (subject.root, *sys.path) if p)
    command = [sys.executable, "-c", PROBE, "warm" if warm else "cold", subject.manifest.entry, subject.manifest.tool_type]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": path}, timeout=60, check=False)  # noqa: S603
    if done.returncode:
        return float("inf"), [done.stderr.decode(errors="replace").strip().splitlines()[-1][:200]]
    found = json.loads(done.stdout)
    return float(found["ms"]), list(found["heavy"])


def load_ms(subject: Subject, *, warm: bool, tries: int = 3) -> float:
    """The best of some tries: the machine's own noise only ever adds."""
    return round(min(load_probe(subject, warm=warm)[0] for _ in range(tries)), 1)


def p99_us(step: Callable[[int], object], rounds: int = ROUNDS) -> float:
    """Microseconds within which 99 of 100 calls end."""
    times = []
    for number in range(rounds):
        began = time.perf_counter_ns()
        step(number)
        times.append(time.perf_counter_ns() - began)
    times.sort()
    return round(times[int(len(times) * 0.99)] / 1000, 1)


def measured(subject: Subject) -> dict[str, float]:
    """The card's figures; the times to verify and to read are over every fixture in turn."""
    plugins = {
        f.name: subject.kind(PluginContext(tenant="acme", tool="target", settings=_settings(f.settings), secrets=_secret, http=_none))
        for f in subject.fixtures
    }
    pairs = [(plugins[f.name], delivery_of(f)) for f in subject.fixtures]
    figures = {"load_ms": load_ms(subject, warm=True), "cold_load_ms": load_ms(subject, warm=False)}
    if not pairs:
        return figures

    def validate(number: int) -> None:
        plugin, delivery = pairs[number % len(pairs)]
        with suppress(PluginError):  # fixtures are not signed; a refusal costs no less than an acceptance
            plugin.validate_webhook(delivery)

    def extract(number: int) -> None:
        plugin, delivery = pairs[number % len(pairs)]
        with suppress(NotADelivery):  # a fixture that is none: refusing it is what is timed
            plugin.extract_metadata(delivery)

    return {**figures, "validate_p99_us": p99_us(validate), "extract_p99_us": p99_us(extract)}


def _settings(told: dict[str, object]) -> dict[str, object]:
    webhook = told.get("webhook")
    return {"base_url": "https://acme.example", **told, "webhook": {"secret": "measured", **(webhook if isinstance(webhook, dict) else {})}}


def _secret(reference: str) -> list[bytes]:
    return [reference.encode()]


def _none() -> NoReturn:
    raise AssertionError("a pure method asked for the HTTP client")
