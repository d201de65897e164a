"""What is mutated, and the tests that must notice: the shared mapping and one vendor's plugin without its sandbox."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = (
    "tests/plugins/test_mapping.py",
    "tests/plugins/zendesk/test_zendesk_payload.py",
    "tests/plugins/zendesk/test_zendesk_whole.py",
    "tests/plugins/zendesk/test_zendesk_webhook.py",
    "tests/plugins/zendesk/test_zendesk_requests.py",
)
"""The cheapest first: most mutants end there. None starts a sandbox: these tests alone must notice."""
_MAPPING, _PAYLOAD, _WHOLE, _WEBHOOK, _REQUESTS = TESTS
MODULES: dict[str, tuple[str, ...]] = {
    "plugins/mapping.py": (_MAPPING, _PAYLOAD),
    "plugins/zendesk/words.py": (_PAYLOAD, _WHOLE, _REQUESTS),
    "plugins/zendesk/payload.py": (_PAYLOAD, _WHOLE, _WEBHOOK),
    "plugins/zendesk/sla.py": (_WHOLE,),
    "plugins/zendesk/webhook_validator.py": (_WEBHOOK,),
    "plugins/zendesk/writes.py": (_REQUESTS,),
    "plugins/zendesk/api_client.py": (_REQUESTS,),
    "plugins/zendesk/plugin.py": (_WEBHOOK, _REQUESTS),
}
"""Each module, and the tests that answer for it; of these, those that run the mutant's lines are run."""
TIMED = ("test_extraction_and_key_are_quick_enough_for_the_hot_path",)
"""Left out: on a busy machine it fails without any fault."""
EXAMPLES = 40
"""Hypothesis' examples a test here, always the same ones."""
