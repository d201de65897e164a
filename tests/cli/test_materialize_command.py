"""`ai-agents materialize` before it starts: a store that can never work is one line, not a process that tries for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from analytics.sqlite import SqliteStore
from cli.main import cli


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("postgresql://db.example/analytics", "not known"),
        ("sqlite:///{tmp}/notes.txt", "notes.txt"),
        ("sqlite:///{tmp}/newer.db", "newer release"),
    ],
)
def test_a_store_that_cannot_work_ends_the_command(store: str, words: str, tmp_path: Path) -> None:
    """Said at once, with the file."""
    (tmp_path / "notes.txt").write_text("no database, and long enough to be read as a header of one hundred bytes " * 9)
    newer = SqliteStore(tmp_path / "newer.db")
    newer._db.execute("INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('analytics', '9999_later', '')")
    newer.close()
    result = CliRunner().invoke(cli, ["--data-dir", str(tmp_path), "--store", store.format(tmp=tmp_path), "materialize"])
    assert result.exit_code == 1
    assert words in result.output
