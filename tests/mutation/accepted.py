"""Why a mutant that survives is accepted, by its file and name. A mutant that is not here is an open question."""

from __future__ import annotations

from collections.abc import Mapping

_MAPPING = "plugins/mapping.py"
_QUICKER = "equivalent: the shorter way gives what the longer one gives, sooner"

ACCEPTED: Mapping[tuple[str, str], str] = {
    (
        _MAPPING,
        "_from_steps: negated: if all((isinstance(step, str) for step in steps)) => if not all((isinstance(step, str) for step in steps))",
    ): _QUICKER,
    (_MAPPING, "FieldMap.__init__: unfiltered: name not in members => (removed)"): _QUICKER,
    (_MAPPING, "WordMap.__call__: assigns: found = self._words.get(value) => found = None"): _QUICKER,
}
