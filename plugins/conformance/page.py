"""docs/conformance.md, made from the checks themselves: `python -m plugins.conformance.page > docs/conformance.md`."""

from __future__ import annotations

from plugins.conformance.check import FAMILIES, all_checks

HEAD = """# Conformance

Every plugin makes the same promises, and `ai-agents plugin test NAME|PATH` tries them one by one: against the plugin's sandbox in a
process of its own, behind a proxy full of faults, in less than a minute, without any network beyond this machine. This page is made
from the checks; their names stay.

    ai-agents plugin test zendesk                            # the report card; failures with their reason
    ai-agents plugin test ./acme_desk --only verification    # a family, or one check, of a plugin that is not installed
    ai-agents plugin test --all -o junit > conformance.xml   # for a build server

A check ends in one of three ways: *passed*, *failed* with what was seen, or *not applicable* with the reason, which always is
something the plugin's manifest says. The exit code is 1 when one failed. The card's level: **certified** when nothing failed,
**verified** when verification, parsing, redaction and lifecycle are whole (good enough for a source), else **listed**; a run of some
families alone is **partial**.

In a plugin's own tests the same checks are a base class:

```python
from plugins.conformance.pytest_plugin import ConformanceSuite


class TestAcmeDesk(ConformanceSuite):
    tool_type = "acme_desk"
```

What the kit cannot find out by itself stands in plugin.toml under `[plugin.conformance]`:

| setting | what it says |
|---|---|
| `missing_id` | a ticket id of the right form that does not exist |
| `strange_field` | a custom field the sandbox does not have; empty where the tool ignores fields it does not know |
| `signs_body` | webhooks carry a signature over the body, not only a secret |
| `timestamped` | the signature covers a time, so an old delivery is refused |
| `retries_webhooks` | the tool sends a delivery again when it was not taken |
| `types` | the types create_ticket and update_ticket can set; `[]` where the tool's tickets have none |
| `priorities` | the priorities the tool has a word for, where it has fewer than four |
| `statuses` | the statuses the tool has a word for, where one of new, open, pending, resolved and closed is missing |
| `settings` | a tenant's settings beyond what the sandbox's `credentials` and `webhook` tell, such as those you made required |

fixtures/expected.yaml says of each kept delivery what it yields: `name: {headers: {…}, query: …, settings: {…}, expect: {field: value}}`,
or `name: {error: NotADelivery}`; a field may be a path such as `extra.comment`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for family, doc in FAMILIES.items():
        parts.append(f"## {family}\n\n{doc}\n")
        parts += [f"### {check.name}\n\n{check.why}\n" for check in all_checks() if check.family == family]
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - this is its whole purpose
