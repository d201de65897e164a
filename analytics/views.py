"""The views and the readers over them. Their SQL is in sql/*.sql, one file a view, its first line saying what it answers.

Rollups know whole UTC days (throughput: minutes), so a range is widened to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from analytics.materializer import DAY_US, MAX_TIME, MINUTE_US, day_text, minute_text

Query = Callable[[str, Mapping[str, Any]], Sequence[Mapping[str, Any]]]
"""Runs a SELECT with named parameters."""


@cache
def _files() -> Mapping[str, str]:
    folder = resources.files("analytics") / "sql"
    names = sorted(p.name for p in folder.iterdir() if p.name.endswith(".sql"))
    return {name.removesuffix(".sql"): (folder / name).read_text(encoding="utf-8") for name in names}


@cache
def definitions() -> Mapping[str, str]:
    """Each view's SELECT by its name, over all days."""
    return {name: text.replace("WHERE {days}", "") for name, text in _files().items()}


@dataclass(frozen=True, slots=True)
class Scope:
    """What to read: times in epoch microseconds, `until` not included; one tenant or tool, or all."""

    since: int = 0
    until: int = MAX_TIME
    tenant: str | None = None
    tool: str | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """The scope as the queries' parameters."""
        last = max(self.since, self.until - 1)
        return {
            "since": self.since,
            "until": self.until,
            "first_day": day_text(self.since // DAY_US),
            "last_day": day_text(last // DAY_US),
            "first_minute": minute_text(self.since // MINUTE_US),
            "last_minute": minute_text(last // MINUTE_US),
            "tenant": self.tenant,
            "tool": self.tool,
        }


_WHOSE = "(:tenant IS NULL OR tenant = :tenant) AND (:tool IS NULL OR tool = :tool)"
_DAYS = "day BETWEEN :first_day AND :last_day"


class Reader:
    """What the tables say, one method a question. Rows are plain mappings, in the order named."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def _rows(self, sql: str, scope: Scope, **more: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in self._query(sql, scope.parameters | more)]

    def methods(self, scope: Scope) -> list[dict[str, Any]]:
        """Each method's calls, errors, latencies (microseconds) and cost; the most used first."""
        latency = _files()["method_latency"].replace("{days}", f"l.{_DAYS}")
        return self._rows(
            f"""
            WITH used AS (
              SELECT tenant, tool, plugin, method, SUM(calls) AS calls, SUM(errors) AS errors, SUM(latency_us_sum) AS total_us,
                     MAX(latency_us_max) AS max_us, SUM(api_calls) AS api_calls, SUM(cost_micros) AS cost_micros
              FROM method_usage WHERE {_DAYS} AND {_WHOSE} GROUP BY tenant, tool, plugin, method
            ), timed AS ({latency})
            SELECT u.tenant, u.tool, u.plugin, u.method, u.calls, u.errors, u.total_us / u.calls AS avg_us,
                   t.p50_us, t.p95_us, t.p99_us, u.max_us, u.api_calls, u.cost_micros
            FROM used AS u JOIN timed AS t ON t.tenant = u.tenant AND t.tool = u.tool AND t.plugin = u.plugin AND t.method = u.method
            ORDER BY u.calls DESC, u.tenant, u.tool, u.method""",  # noqa: S608 - only our own text
            scope,
        )

    def errors(self, scope: Scope) -> list[dict[str, Any]]:
        """Failed calls by method and class of error, beside all calls of that method; the most frequent first."""
        return self._rows(
            f"""
            WITH used AS (
              SELECT tenant, tool, plugin, method, SUM(calls) AS calls
              FROM method_usage WHERE {_DAYS} AND {_WHOSE} GROUP BY tenant, tool, plugin, method
            ), failed AS (
              SELECT tenant, tool, plugin, method, error_class, SUM(errors) AS errors
              FROM plugin_errors WHERE {_DAYS} AND {_WHOSE} GROUP BY tenant, tool, plugin, method, error_class
            )
            SELECT f.tenant, f.tool, f.plugin, f.method, f.error_class, f.errors, u.calls
            FROM failed AS f JOIN used AS u ON u.tenant = f.tenant AND u.tool = f.tool AND u.plugin = f.plugin AND u.method = f.method
            ORDER BY f.errors DESC, f.tenant, f.tool, f.method, f.error_class""",  # noqa: S608 - only our own text
            scope,
        )

    def costs(self, scope: Scope, by: str = "month") -> list[dict[str, Any]]:
        """Cost by `day` or `month`, tenant and tool, in millionths of the currency; the latest first."""
        period = "substr(day, 1, 7)" if by == "month" else "day"
        return self._rows(
            f"""
            SELECT {period} AS {by}, tenant, tool, SUM(calls) AS calls, SUM(api_calls) AS api_calls, SUM(cost_micros) AS cost_micros
            FROM api_costs WHERE {_DAYS} AND {_WHOSE}
            GROUP BY {period}, tenant, tool ORDER BY {by} DESC, cost_micros DESC, tenant, tool""",  # noqa: S608 - by is one of ours
            scope,
        )

    def throughput(self, scope: Scope, limit: int = 60) -> list[dict[str, Any]]:
        """Calls, errors and events by minute and tool; the latest first."""
        return self._rows(
            f"""
            SELECT minute, tenant, tool, calls, errors, events FROM throughput
            WHERE minute BETWEEN :first_minute AND :last_minute AND {_WHOSE} ORDER BY minute DESC, tenant, tool LIMIT :limit""",  # noqa: S608
            scope,
            limit=limit,
        )

    def freshness(self) -> list[dict[str, Any]]:
        """How far each partition is in the tables."""
        return self._rows("SELECT * FROM freshness ORDER BY topic, part", Scope())

    def routing(self, scope: Scope) -> list[dict[str, Any]]:
        """Finished events by rule, target, kind and priority; the most frequent first."""
        return self._rows(
            f"""
            SELECT tenant, tool, rule, target, ticket_type, priority, outcome, SUM(events) AS events
            FROM routing WHERE {_DAYS} AND {_WHOSE}
            GROUP BY tenant, tool, rule, target, ticket_type, priority, outcome
            ORDER BY events DESC, tenant, tool, rule, target, ticket_type, priority""",  # noqa: S608 - only our own text
            scope,
        )

    def failovers(self, scope: Scope) -> list[dict[str, Any]]:
        """Events that another tool took than the one tried first."""
        return self._rows(
            f"SELECT * FROM failovers WHERE {_DAYS} AND {_WHOSE} ORDER BY day DESC, events DESC, tenant, tool",  # noqa: S608
            scope,
        )

    def dead_letters(self, scope: Scope, limit: int = 100) -> list[dict[str, Any]]:
        """Events set aside, the latest first."""
        return self._rows(
            f"""
            SELECT * FROM dead_letters WHERE failed_at >= :since AND failed_at < :until AND {_WHOSE}
            ORDER BY failed_at DESC, origin_topic, origin_partition, origin_offset LIMIT :limit""",  # noqa: S608 - only our own text
            scope,
            limit=limit,
        )

    def dead_letter_reasons(self, scope: Scope) -> list[dict[str, Any]]:
        """How many events were set aside, by tenant, stage and reason; the most frequent first."""
        return self._rows(
            f"""
            SELECT tenant, tool, stage, reason, COUNT(*) AS letters, MAX(failed_at) AS last_failed_at
            FROM dead_letters WHERE failed_at >= :since AND failed_at < :until AND {_WHOSE}
            GROUP BY tenant, tool, stage, reason ORDER BY letters DESC, tenant, tool, stage, reason""",  # noqa: S608
            scope,
        )

    def ingestion(self, scope: Scope) -> list[dict[str, Any]]:
        """Requests at the doors by outcome; refusals by reason."""
        return self._rows(
            f"""
            SELECT tenant, tool, outcome, reason, SUM(requests) AS requests
            FROM ingestion WHERE window_start >= :since AND window_start < :until AND {_WHOSE}
            GROUP BY tenant, tool, outcome, reason ORDER BY tenant, tool, outcome, requests DESC""",  # noqa: S608 - only our own text
            scope,
        )

    def event(self, event_id: bytes, around: tuple[int, int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """An event's rows and its calls'. `around` is the range of received_at to look in: facts are found by time."""
        more = {"id": event_id.hex(), "from": around[0], "to": around[1]}
        where = "WHERE received_at BETWEEN :from AND :to AND event_id = :id ORDER BY received_at, injection_id"
        return (
            self._rows(f"SELECT * FROM events {where}", Scope(), **more),  # noqa: S608 - only our own text
            self._rows(f"SELECT * FROM calls {where}, started_at", Scope(), **more),  # noqa: S608 - only our own text
        )
