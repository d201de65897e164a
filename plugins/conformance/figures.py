"""What is measured of a plugin for its report card: how long it takes to load, to verify and to read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import msgspec

from plugins.api import NotADelivery, PluginConfigError, PluginContext, PluginError
from plugins.conformance.checks.parsing import delivery_of
from plugins.conformance.subject import Subject

ROUNDS = 1_500

PROBE = """
import json, os, sys, threading, time
warm, entry, watched = sys.argv[1] == "warm", sys.argv[2], sys.argv[3] == "watched"
package = entry.partition(":")[0].rpartition(".")[0] or entry.partition(":")[0]
if warm:
    import asyncio, logging, plugins.api, plugins.mapping, plugins.webhook, plugins.marker, plugins.registry, plugins.richtext
work = []

def ours():
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name == package or name.startswith(package + "."):
            return name
        if name not in ("os", "collections.abc", "_collections_abc"):
            return None
        frame = frame.f_back

def hear(event, arguments):
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "sqlite3.connect"):
        work.append(event)
    elif event == "open" and not str(arguments[0]).endswith((".py", ".pyc", ".so", ".pth")) and not os.path.isdir(str(arguments[0])):
        work.append("opens the file " + os.path.basename(str(arguments[0])))

if watched:
    sys.addaudithook(hear)
    started, got = threading.Thread.start, type(os.environ).__getitem__
    threading.Thread.start = lambda self: (work.append("starts a thread"), started(self))[1]

    def environ(self, name):
        if (module := ours()) is not None:
            work.append(module + " reads the environment")
        return got(self, name)

    type(os.environ).__getitem__ = environ
began = time.process_time()
from plugins.registry import load_class
kind = load_class(entry)
took = time.process_time() - began
if watched:
    for name, module in list(sys.modules.items()):
        if name == package or name.startswith(package + "."):
            for attribute, value in list(vars(module).items()):
                made_by = type(value).__module__.partition(".")[0]
                if made_by in ("httpx", "aiohttp", "requests", "ldap3") or type(value).__module__.startswith("plugins.http.client"):
                    work.append(name + " makes a client: " + attribute)
heavy = ("httpx", "aiohttp", "requests", "urllib3", "ldap3", "jwt", "cryptography", "pydantic", "plugins.http.client")
print(json.dumps({"ms": took * 1000, "heavy": [name for name in heavy if name in sys.modules], "work": work}))
"""


class ImportProbe(msgspec.Struct, frozen=True):
    """What one import in a fresh interpreter took, brought in, and did."""

    ms: float
    heavy: list[str] = []
    work: list[str] = []


def import_probe(subject: Subject) -> ImportProbe:
    """What the import does: watched once for each subject, and remembered."""
    if subject.manifest.entry not in _watched:
        _watched[subject.manifest.entry] = _probe(subject, warm=True, watched=True)
    return _watched[subject.manifest.entry]


_watched: dict[str, ImportProbe] = {}


def _probe(subject: Subject, *, warm: bool, watched: bool) -> ImportProbe:
    """Imports the plugin in a fresh interpreter.

    `warm`: what a host has loaded anyway is there. Cold: nothing is, but the compiled files are on disk. `watched`: what it does
    meanwhile is noted, which takes time of its own.
    """
    path = os.pathsep.join(str(p) for p in (subject.root, *sys.path) if p)
    words = [subject.manifest.entry, "watched" if watched else "timed"]
    command = [sys.executable, "-c", PROBE, "warm" if warm else "cold", *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # else it compiles each time
    done = subprocess.run(command, capture_output=True, env={**environment, "PYTHONPATH": path}, timeout=60, check=False)  # noqa: S603
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise PluginConfigError(f"{subject.manifest.entry} cannot be imported: {''.join(last)[:200]}")
    return msgspec.json.decode(done.stdout, type=ImportProbe)


def load_ms(subject: Subject, *, warm: bool, tries: int = 3, enough: float = 0.0) -> float:
    """Milliseconds of CPU to import it: the best of some tries, since noise only ever adds; fewer once one is `enough`."""
    best = float("inf")
    for _ in range(tries):
        best = min(best, _probe(subject, warm=warm, watched=False).ms)
        if best < enough:
            break
    return round(best, 1)


def p99_us(step: Callable[[int], object], rounds: int = ROUNDS) -> float:
    """Microseconds of CPU within which 99 of 100 calls end: what else the machine does is not the plugin's."""
    times = []
    for number in range(rounds):
        began = time.thread_time_ns()
        step(number)
        times.append(time.thread_time_ns() - began)
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
