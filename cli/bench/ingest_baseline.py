"""The baseline of `bench ingest`: a Starlette route and aiokafka's `send_and_wait`, as their manuals show them.

It verifies with the same plugin and sends the same records; what it lacks is the coalescer, the spool, the bounds and the counts.
`python -m cli.bench.ingest_baseline BROKERS PORT`, the secret in AI_AGENTS_BENCH_SECRET.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from time import time_ns

import uvicorn
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from plugins.api import Delivery, WebhookRejected
from plugins.manager import PluginManager, ToolBinding
from plugins.registry import PluginRegistry
from streams.ingestion.verify import received


def app(brokers: str, secret: str) -> Starlette:
    """The whole baseline."""
    binding = ToolBinding(tenant="bench", tool="desk", tool_type="zendesk", settings={"webhook": {"secret": secret}}, version=1)
    manager = PluginManager(
        PluginRegistry.discover(),
        lambda tenant, tool, _: binding if (tenant, tool) == ("bench", "desk") else None,
        lambda _: lambda reference: (reference.encode(),),
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all", enable_idempotence=True)
        await app.state.producer.start()
        yield
        await app.state.producer.stop()

    async def webhook(request: Request) -> JSONResponse:
        at = time_ns() // 1000
        tenant, tool = request.path_params["tenant"], request.path_params["tool"]
        plugin = manager.peek(tenant, tool, at)
        if plugin is None:
            return JSONResponse({"error": "unknown"}, status_code=404)
        delivery = Delivery(
            tenant=tenant,
            tool=tool,
            body=await request.body(),
            headers=request.headers,
            content_type=request.headers.get("content-type", ""),
            query=request.url.query,
            received_at=at,
        )
        try:
            event_id, record = received(plugin, delivery)
        except WebhookRejected as exc:
            return JSONResponse({"error": exc.reason}, status_code=401)
        await request.app.state.producer.send_and_wait(record.topic, record.value, key=record.key, timestamp_ms=record.timestamp_ms)
        return JSONResponse({"event_id": event_id}, status_code=202)

    return Starlette(routes=[Route("/webhooks/{tenant}/{tool}", webhook, methods=["POST"])], lifespan=lifespan)


if __name__ == "__main__":
    uvicorn.run(
        app(sys.argv[1], os.environ["AI_AGENTS_BENCH_SECRET"]),
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
