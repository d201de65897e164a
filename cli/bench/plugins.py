"""`ai-agents bench plugins`: each plugin's own times, and its calls with a tool that takes 200 ms to answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING

import click
import msgspec

from cli.bench.measure import percentile_ms
from cli.output import FAILED, NOT_FOUND, CommandError, output_option, rows, say

if TYPE_CHECKING:
    from plugins.conformance.stand import Stand
    from plugins.conformance.subject import Subject
    from plugins.sandbox.process import SandboxProcess

LATENCY_S = 0.2
CALLS = 10
BATCH = 100
ROUNDS = 3_000


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one plugin beside its target; `better` says on which side of it is good. `given` is the roadmap's own target."""

    plugin: str
    what: str
    value: float
    unit: str
    target: float
    better: str = "below"
    given: float | None = None

    @property
    def met(self) -> bool:
        return self.value < self.target if self.better == "below" else self.value >= self.target


def figures_of(subject: Subject, sandbox: SandboxProcess) -> Iterable[Figure]:
    """All figures of one plugin, against its sandbox that runs already."""
    from plugins.conformance.figures import load_ms

    def figure(what: str, value: float, unit: str, target: float, better: str = "below", given: float | None = None) -> Figure:
        return Figure(
            plugin=subject.manifest.tool_type, what=what, value=round(value, 3), unit=unit, target=target, better=better, given=given
        )

    validate, extract, get, update, ratio = asyncio.run(_with_stand(subject, sandbox))
    yield figure("validate_webhook p99", validate, "ms", 1, given=50)
    yield figure("extract_metadata p99", extract, "ms", 1, given=50)
    yield figure("get_ticket p99", get, "ms", 1_000, given=1_000)
    yield figure("update_ticket p99", update, "ms", 3_000, given=3_000)
    yield figure(f"batch of {BATCH} updates, beside one by one", ratio, "times", 5, "above", given=5)
    yield figure("load, warm", load_ms(subject, warm=True, tries=7), "ms", 20, given=20)
    yield figure("load, cold", load_ms(subject, warm=False, tries=7), "ms", 200, given=200)


async def _with_stand(subject: Subject, sandbox: SandboxProcess) -> tuple[float, float, float, float, float]:
    from plugins.conformance.stand import Stand

    async with Stand(subject, sandbox) as stand:
        validate, extract = await _pure(stand)
        return (validate, extract, *await _calls(stand))


async def _pure(stand: Stand) -> tuple[float, float]:
    """p99 milliseconds of CPU to verify a genuine delivery, and to read the fixtures in turn; a busy machine would drown wall time."""
    from plugins.api import NotADelivery
    from plugins.conformance.checks.parsing import delivery_of
    from plugins.conformance.figures import p99_us

    genuine, verifier = await stand.delivery(), stand.reader()
    tool = stand.subject.manifest.tool_type
    readers = [(stand.reader(**f.settings), delivery_of(f)) for f in stand.subject.fixtures if not (f.told or {}).get("error")]
    if not readers:
        raise CommandError(f"{tool}: its folder has no fixtures, so there is nothing to read", NOT_FOUND)

    def extract(number: int) -> None:
        reader, delivery = readers[number % len(readers)]
        try:
            reader.extract_metadata(delivery)
        except NotADelivery as exc:
            raise CommandError(f"{tool}: a fixture that should yield a ticket does not: {exc}", FAILED) from exc

    return p99_us(lambda number: verifier.validate_webhook(genuine), ROUNDS) / 1000, p99_us(extract, ROUNDS) / 1000


async def _calls(stand: Stand) -> tuple[float, float, float]:
    """p99 milliseconds of get_ticket and update_ticket, and how many times quicker a batch is than its items one by one.

    One by one is taken from the single updates' median: a hundred of them would only take longer.
    """
    from plugins.conformance.builders import a_change

    plugin, ids = stand.plugin(), []
    for start in range(0, BATCH, 10):
        refs = await asyncio.gather(*(stand.created(plugin, subject=f"bench {n}") for n in range(start, start + 10)))
        ids += [ref.ticket_id for ref in refs]
    stand.proxy.latency = LATENCY_S
    gets = [await _seconds(plugin.get_ticket(ticket_id)) for ticket_id in ids[:CALLS]]
    updates = [await _seconds(plugin.update_ticket(ticket_id, a_change(subject="one"))) for ticket_id in ids[:CALLS]]
    batch = await _seconds(plugin.batch_update_tickets({ticket_id: a_change(subject="all") for ticket_id in ids}))
    one_by_one = sorted(updates)[len(updates) // 2] * len(ids)
    return percentile_ms(gets, 99) or 0.0, percentile_ms(updates, 99) or 0.0, one_by_one / batch


async def _seconds(call: Awaitable[object]) -> float:
    began = time.perf_counter()
    await call
    return time.perf_counter() - began


@click.command("plugins")
@click.option("--tool", "tools", multiple=True, metavar="TOOL_TYPE", help="Measure these plugins alone [default: every installed one].")
@output_option
def bench_plugins(tools: tuple[str, ...], output: str) -> None:
    """Measure the plugins: verifying, reading, loading, and calls of a tool that takes 200 ms to answer.

    Each plugin's sandbox is started in a process of its own, with a proxy before it that holds every answer back. Beside each figure
    stands our target, and the roadmap's.

    Example: ai-agents bench plugins -o json
    """
    from plugins.api import ApiError, PluginConfigError
    from plugins.conformance.stand import sandbox_of
    from plugins.conformance.subject import Subject
    from plugins.registry import PluginRegistry
    from plugins.sandbox.process import SandboxFailed

    found: list[Figure] = []
    try:
        for tool in tools or [manifest.tool_type for manifest in PluginRegistry.discover().manifests()]:
            say(f"bench plugins: {tool}")
            subject = Subject.find(tool)
            with sandbox_of(subject) as sandbox:
                found += figures_of(subject, sandbox)
    except PluginConfigError as exc:
        raise CommandError(str(exc), NOT_FOUND) from exc
    except (ApiError, SandboxFailed) as exc:
        raise CommandError(str(exc)) from exc
    except TimeoutError as exc:
        raise CommandError(f"{tool}: its sandbox sent no webhook; run: ai-agents plugin test {tool}") from exc
    columns = ["plugin", "what", "value", "unit", "target", "given", "met"]
    rows(({**msgspec.to_builtins(figure), "met": figure.met} for figure in found), output, columns)
