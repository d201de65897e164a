"""The report card: what a plugin's outcomes come to, as a marketplace shows it, and as JUnit XML for a build server."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

import msgspec

from plugins.conformance.check import FAMILIES
from plugins.conformance.run import Outcome
from plugins.manifest import PluginManifest

VERIFIED_BY = ("verification", "parsing", "redaction", "lifecycle")
"""What a plugin must pass whole to be trusted with a source of deliveries; to be written to, it must pass everything."""
XML_FORBIDS = {code: None for code in range(32) if code not in (9, 10, 13)}


class FamilyCount(msgspec.Struct, frozen=True, kw_only=True):
    """One family's outcomes, counted."""

    family: str
    passed: int
    failed: int
    not_applicable: int


class ReportCard(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin's run. `level`: certified (nothing failed), verified (no failure in VERIFIED_BY), else listed.

    `figures` are measured: load_ms and cold_load_ms in a fresh interpreter, validate_p99_us and extract_p99_us over the fixtures.
    """

    tool_type: str
    name: str
    version: str
    level: str
    passed: int
    failed: int
    not_applicable: int
    seconds: float
    families: list[FamilyCount]
    figures: dict[str, float] = {}
    outcomes: list[Outcome] = []


def card(manifest: PluginManifest, outcomes: Sequence[Outcome], figures: dict[str, float] | None = None) -> ReportCard:
    """The card of these outcomes; a family nothing was run of is left out, and a run of a part gets the level "partial"."""
    families = [
        FamilyCount(
            family=family,
            passed=sum(o.family == family and o.result == "passed" for o in outcomes),
            failed=sum(o.family == family and o.result == "failed" for o in outcomes),
            not_applicable=sum(o.family == family and o.result == "not applicable" for o in outcomes),
        )
        for family in FAMILIES
        if any(o.family == family for o in outcomes)
    ]
    return ReportCard(
        tool_type=manifest.tool_type,
        name=manifest.name,
        version=manifest.version,
        level=level_of(outcomes),
        passed=sum(f.passed for f in families),
        failed=sum(f.failed for f in families),
        not_applicable=sum(f.not_applicable for f in families),
        seconds=round(sum(o.seconds for o in outcomes), 1),
        families=families,
        figures=figures or {},
        outcomes=list(outcomes),
    )


def level_of(outcomes: Sequence[Outcome]) -> str:
    """What these outcomes earn."""
    if {o.family for o in outcomes} != set(FAMILIES):
        return "partial"
    failed = {o.family for o in outcomes if o.result == "failed"}
    if not failed:
        return "certified"
    return "listed" if failed & set(VERIFIED_BY) else "verified"


def junit(cards: Sequence[ReportCard]) -> str:
    """JUnit XML: a suite a plugin, a case a check; what does not apply is skipped, with its reason."""
    root = ET.Element("testsuites")
    for found in cards:
        suite = ET.SubElement(
            root,
            "testsuite",
            name=f"conformance.{found.tool_type}",
            tests=str(len(found.outcomes)),
            failures=str(found.failed),
            skipped=str(found.not_applicable),
            time=f"{found.seconds:.3f}",
        )
        for outcome in found.outcomes:
            case = ET.SubElement(suite, "testcase", classname=f"{found.tool_type}.{outcome.family}", name=outcome.check)
            case.set("time", f"{outcome.seconds:.3f}")
            detail = outcome.detail.translate(XML_FORBIDS).encode("utf-8", "replace").decode()
            if outcome.result == "failed":
                ET.SubElement(case, "failure", message=detail).text = f"{detail}\n{outcome.why}\n{outcome.docs}"
            elif outcome.result == "not applicable":
                ET.SubElement(case, "skipped", message=detail)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")
