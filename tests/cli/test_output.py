"""What a command prints is what it was given."""

from __future__ import annotations

import pytest

from cli.output import _table


def test_brackets_in_a_tickets_words_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Subjects come from outside: `[hall 2]` is no style, and `[/x]` must not end the command with an error."""
    _table([{"subject": "[hall 2] no light [/x] [bold]!", "n": 3}], ["subject", "n"])
    assert "[hall 2] no light [/x] [bold]!" in capsys.readouterr().out
