"""As much of JQL as clients of this sandbox write: clauses joined by AND, some of them alternatives in brackets. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from plugins.jira.sandbox_issue import Json, Refused
from plugins.richtext import from_adf, to_plain

Clause = tuple[str, str, frozenset[str]]

_VALUE: Final = r'(?:"(?:[^"\\]|\\.)*"|[^\s",()]+)'
_CLAUSE: Final = re.compile(
    rf"(?P<field>labels|project|key|id|issue|issuekey|status|summary|description|text)\s*"
    rf"(?:(?P<sign>=|~)\s*(?P<one>{_VALUE})|in\s*\((?P<many>\s*{_VALUE}(?:\s*,\s*{_VALUE})*\s*)\))",
    re.IGNORECASE,
)
_FIELDS: Final = {"issue": "key", "issuekey": "key", "id": "key"}


def query_of(jql: str) -> list[list[Clause]]:
    """Alternatives that must each hold; raises Refused for an unbounded query, and for one not known here."""
    text = re.split(r"(?i)\border\s+by\b", jql)[0].strip()
    if not text:
        raise Refused("Unbounded JQL queries are not allowed here. Please add a search restriction to your query.")
    found = []
    while text:
        if text.startswith("("):
            inside, closed, text = text[1:].partition(")")
            if not closed:
                raise Refused("Error in the JQL Query.")
            found.append([_clause(part) for part in re.split(r"(?i)\s+or\s+", inside.strip())])
        else:
            clause = _CLAUSE.match(text)
            if clause is None:
                raise Refused("Error in the JQL Query.")
            found.append([_clause(clause.group())])
            text = text[clause.end() :]
        text = text.strip()
        if text:
            if re.match(r"(?i)and\b", text) is None:
                raise Refused("Error in the JQL Query.")
            text = text[3:].strip()
    return found


def _clause(text: str) -> Clause:
    clause = _CLAUSE.fullmatch(text.strip())
    if clause is None:
        raise Refused("Error in the JQL Query.")
    values = re.findall(_VALUE, clause["many"] or clause["one"])
    field = clause["field"].lower()
    return _FIELDS.get(field, field), clause["sign"] or "=", frozenset(_plain(value) for value in values)


def _plain(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def keys_in(query: list[list[Clause]]) -> frozenset[str]:
    """Every key or id the query names: one that does not exist makes Data Center refuse the whole."""
    return frozenset(value for clauses in query for field, _, values in clauses if field == "key" for value in values)


def fits(issue: Mapping[str, Any], query: list[list[Clause]]) -> bool:
    """Whether an issue meets every part of the query."""
    return all(any(_holds(issue, clause) for clause in clauses) for clauses in query)


def _holds(issue: Mapping[str, Any], clause: Clause) -> bool:
    name, sign, wanted = clause
    fields: Json = issue["fields"]
    text = to_plain(from_adf(fields["description"])) if fields.get("description") else ""
    if sign == "~":
        inside = {"summary": fields["summary"], "description": text}.get(name, f"{fields['summary']}\n{text}")
        return all(word.strip('"').casefold() in inside.casefold() for word in wanted)
    known = {
        "labels": fields["labels"],
        "project": [fields["project"]["key"]],
        "key": [issue["key"], issue["id"]],
        "status": [fields["status"]["name"]],
    }
    return any(value in wanted for value in known.get(name, ()))
