"""The planted bugs, along an event's way: the door, the spool, route, process, materialize, and what carries them."""

from __future__ import annotations

from tests.planted.bug import Bug

_COALESCER, _SWITCH = "streams/ingestion/coalescer.py", "tests/streams/ingestion/test_switch.py"
_WEBHOOK, _WEBHOOK_TEST = "plugins/webhook.py", "tests/plugins/test_webhook.py"
_ROUTE, _ROUTE_TEST = "streams/route_step.py", "tests/streams/test_route_step.py"
_SEEN, _SEEN_TEST = "streams/seen.py", "tests/streams/test_seen.py"
_PROCESS = "streams/process_step.py"
_EFFECTS, _EFFECTS_TEST = "streams/effects.py", "tests/streams/process/test_effects.py"
_STAGES_TEST = "tests/streams/test_stages_promise.py"
_RUNNER, _RUNNER_TEST = "streams/runner.py", "tests/streams/test_runner.py"
_SQLITE, _STORE_TEST = "analytics/sqlite.py", "tests/analytics/test_sqlite_store.py"

BUGS: tuple[Bug, ...] = (
    # --- the door --------------------------------------------------------------------------------------------------------
    Bug(
        name="ack-before-produce",
        what="The door answers 202 when it has sent an event, not when the broker has acknowledged it",
        cost="An event its tool believes delivered is lost whenever the broker dies in that moment",
        file=_COALESCER,
        changes=(
            (
                "                future.add_done_callback(partial(self._batch_done, shipment, inside))\n",
                "                self._ended(shipment, inside, None)\n",
            ),
        ),
        test=f"{_SWITCH}::test_nobody_is_answered_before_the_ack",
    ),
    Bug(
        name="door-loses-the-tail",
        what="What does not fit into one Kafka batch is forgotten instead of being left for the next",
        cost="Under load, events above 256 KiB in one moment are neither stored nor answered",
        file=_COALESCER,
        changes=(
            (
                "            taken[lane] = inside\n            if not queue:\n                del self._collected[lane]\n",
                "            taken[lane] = inside\n            del self._collected[lane]\n",
            ),
        ),
        test=f"{_SWITCH}::test_what_is_too_much_for_one_batch_goes_with_the_next",
    ),
    Bug(
        name="spool-forgets-before-the-ack",
        what="A spooled event leaves the disk when it is sent, not when it is acknowledged",
        cost="A door killed while it drains loses events it has answered with 202",
        file=_COALESCER,
        changes=(
            ("                await self._loop.run_in_executor(self._thread, self._spool.advance, stored)\n", ""),
            (
                "            if stored:\n",
                "            if stored:\n                await self._loop.run_in_executor(self._thread, self._spool.advance, stored)\n",
            ),
        ),
        test=f"{_SWITCH}::test_a_door_that_ends_in_the_middle_of_a_drain_keeps_what_is_not_acknowledged",
    ),
    Bug(
        name="events-bypass-the-spool",
        what="The direct way opens while the spool's last events are still to be sent",
        cost="A ticket's newer event overtakes an older one, and the older one is applied last",
        file=_COALESCER,
        changes=(
            (
                "                self._spooling = False  # caught up: hold",
                "                self._spooling = False\n                return  # caught up: hold",
            ),
        ),
        test=f"{_SWITCH}::test_what_comes_at_the_end_of_a_drain_waits_behind_it",
    ),
    Bug(
        name="collected-overtakes-the-shipment",
        what="At the switch to the spool, what was collected goes there before what is under way",
        cost="A ticket's newer event overtakes an older one whenever the broker fails",
        file=_COALESCER,
        changes=(
            (
                "        self._spooling = True\n        if self._shipment is not None:\n",
                "        self._spooling = True\n        for queue in self._collected.values():\n            self._to_spool.extend(queue)\n"
                "        self._collected.clear()\n        if self._shipment is not None:\n",
            ),
        ),
        test=f"{_SWITCH}::test_a_failed_shipment_is_sent_again_from_the_spool_in_order",
    ),
    Bug(
        name="torn-spool-tail-counts",
        what="The spool takes a record whose checksum does not fit",
        cost="After a power cut half an event is delivered as if it were whole",
        file="streams/ingestion/spool.py",
        changes=(("if zlib.crc32(payload) == crc and", "if"),),
        test="tests/streams/ingestion/test_spool.py::test_damage_before_the_end_is_kept_for_a_person_and_told",
    ),
    Bug(
        name="parsed-before-verified",
        what="The ids are read from the body before the signature is checked",
        cost="Strangers reach the parsers with any bytes they like",
        file="streams/ingestion/verify.py",
        changes=(
            (
                "    started = perf_counter_ns()\n    verified =",
                "    _ids(plugin, delivery)\n    started = perf_counter_ns()\n    verified =",
            ),
        ),
        test="tests/streams/ingestion/test_verified_first.py::test_nothing_of_a_forged_delivery_is_parsed",
    ),
    Bug(
        name="signature-over-the-parsed-body",
        what="The signature is compared with that of the body parsed and written again",
        cost="An altered body passes as signed, and a signed body that is no JSON is refused",
        file=_WEBHOOK,
        changes=(
            ("import hmac\n", "import hmac\nimport json\n"),
            (
                "presented, delivery.body, secrets, self.algorithm",
                "presented, json.dumps(json.loads(delivery.body)).encode(), secrets, self.algorithm",
            ),
        ),
        test=f"{_WEBHOOK_TEST}::test_a_body_that_means_the_same_but_is_written_otherwise_is_refused",
    ),
    Bug(
        name="second-secret-refused",
        what="Only the newest of the live webhook secrets is tried",
        cost="During a rotation every delivery is refused until the tool has the new secret",
        file=_WEBHOOK,
        changes=(("    live = [secret for secret in secrets if secret]\n", "    live = [secret for secret in secrets[:1] if secret]\n"),),
        test=f"{_WEBHOOK_TEST}::test_both_live_secrets_pass_during_a_rotation_and_say_which",
    ),
    # --- route -----------------------------------------------------------------------------------------------------------
    Bug(
        name="commit-before-produce",
        what="Route calls a batch done when it has sent what came of it, not when that is acknowledged",
        cost="A worker killed in that moment passes a whole batch over",
        file="streams/agents/route.py",
        changes=(("            offsets = await shipped\n", "            batch.done()\n            offsets = await shipped\n"),),
        test=f"{_STAGES_TEST}::test_route_calls_a_batch_done_when_the_broker_has_all_that_came_of_it",
    ),
    Bug(
        name="route-loses-the-tail",
        what="The last record of a batch is not decided",
        cost="One event of each batch disappears, mostly the only one",
        file=_ROUTE,
        changes=(
            (
                "    for record, received, identity in zip(records, decoded, identities, strict=True):\n",
                "    for record, received, identity in list(zip(records, decoded, identities, strict=True))[: max(1, len(records) - 1)]:\n",
            ),
        ),
        test=f"{_ROUTE_TEST}::test_a_batch_says_of_every_record_what_became_of_it",
    ),
    Bug(
        name="dedup-forgets-on-restart",
        what="A partition's dedup begins empty, not with what the seen topic says",
        cost="Each redelivery after a restart of the worker is worked on again: a second note, a second page",
        file=_SEEN,
        changes=(
            (
                "        start = max(begin, await self._window_start(source, begin, end), position or 0)\n",
                "        self._table.wipe(partition)\n        start = end\n",
            ),
        ),
        test=f"{_SEEN_TEST}::test_dedup_does_not_forget_on_restart",
    ),
    Bug(
        name="decides-anew",
        what="A batch that is read again is decided as if for the first time",
        cost="After a crash an event may go to another tool than before, or be dropped as its own duplicate",
        file=_ROUTE,
        changes=(("        before = recorded.get(offset) if recorded else None\n", "        before = None\n"),),
        test=f"{_ROUTE_TEST}::test_a_batch_read_again_keeps_its_decisions_and_routes_again_as_a_possible_repeat",
    ),
    Bug(
        name="echo-not-dropped",
        what="A delivery that our own write caused is routed like any other",
        cost="Two linked tickets answer each other's notes",
        file=_ROUTE,
        changes=(("_own_actor(plugin, metadata), link) is not None:", "_own_actor(plugin, metadata), link) == 'never':"),),
        test=f"{_ROUTE_TEST}::test_our_note_comes_back_as_an_echo_and_a_reply_to_it_does_not",
    ),
    Bug(
        name="late-hop-limit",
        what="The loop stop acts one round later than promised",
        cost="A loop through another integration writes notes past the limit",
        file=_ROUTE,
        changes=(("    if hop >= HOP_LIMIT:\n", "    if hop > HOP_LIMIT:\n"),),
        test=f"{_ROUTE_TEST}::test_what_cannot_be_routed_is_a_dead_letter_with_its_reason",
    ),
    Bug(
        name="unknown-schema-is-poison",
        what="A record whose writer's schema is not known yet becomes a dead letter",
        cost="An upgrade of the door before the workers sets every event aside",
        file=_ROUTE,
        changes=(
            ("from schemas.codec import Codec, Undecodable\n", "from schemas.codec import Codec, CodecError, Undecodable\n"),
            (
                "    except Undecodable as exc:\n        return exc\n",
                "    except CodecError as exc:\n        return Undecodable(str(exc))\n",
            ),
        ),
        test=f"{_ROUTE_TEST}::test_an_unknown_fingerprint_is_raised_before_anything_is_decided",
    ),
    # --- process ---------------------------------------------------------------------------------------------------------
    Bug(
        name="finished-not-read",
        what="A worker does not read what is finished before it gets a partition",
        cost="Everything routed since the last commit is done a second time in the tools",
        file="streams/agents/process.py",
        changes=(
            (
                "            read = await catch_up(self._settings.brokers, partition, state.finished, doubts, self._codec, "
                "self._settings.security)\n",
                "            read = 0\n",
            ),
        ),
        test=f"{_STAGES_TEST}::test_process_knows_the_links_and_what_is_finished_before_the_first_call",
    ),
    Bug(
        name="finished-done-again",
        what="A repeat of a finished event is worked on",
        cost="A second note for each event that route sends twice after a crash",
        file=_PROCESS,
        changes=(("    if state.finished.has(routed.event_id, routed.injection_id):\n", "    if False:\n"),),
        test=f"{_EFFECTS_TEST}::test_a_repeat_of_a_finished_event_does_nothing",
    ),
    Bug(
        name="link-after-finished",
        what="The link to a new mirror is recorded when the event is finished, not before",
        cost="A worker killed between the two leaves a ticket whose next event makes a second mirror",
        file=_EFFECTS,
        changes=(
            (
                "        await self._record(link)\n",
                "        loop = asyncio.get_running_loop()\n"
                "        loop.call_later(1.0, lambda: loop.create_task(self._record(link)))  # type: ignore[arg-type]\n",
            ),
        ),
        test=f"{_EFFECTS_TEST}::test_what_an_event_changed_is_recorded_before_the_event_counts_as_finished",
    ),
    Bug(
        name="doubt-ignored",
        what="A ticket that may have been created already is not searched for before it is created",
        cost="A worker that dies inside a call leaves two mirrors of one ticket",
        file=_EFFECTS,
        changes=(
            (
                "        if attempt.doubt is None and self.doubts.of_link(work.source_key, work.target) is None:\n",
                "        if True:\n",
            ),
        ),
        test=f"{_EFFECTS_TEST}::test_events_that_may_have_begun_share_one_wait_for_the_search",
    ),
    Bug(
        name="search-believed-too-early",
        what="A search that finds nothing is believed before the tool's index can show the ticket",
        cost="Two mirrors of one ticket, in the tools whose search lags",
        file=_EFFECTS,
        changes=(("            await self._wait_until(since + self._lag)\n", "            await self._wait_until(since)\n"),),
        test=f"{_EFFECTS_TEST}::test_events_that_may_have_begun_share_one_wait_for_the_search",
    ),
    Bug(
        name="old-event-applied-last",
        what="An event older than what the mirror shows is applied all the same",
        cost="A requeued event takes a ticket back to an old status",
        file=_EFFECTS,
        changes=(
            (
                "        return (self.partition, self.routed.received_offset) > (link.applied_partition, link.applied_offset)\n",
                "        return True\n",
            ),
        ),
        test=f"{_EFFECTS_TEST}::test_an_event_older_than_the_link_is_done_without_a_call",
    ),
    Bug(
        name="hop-does-not-grow",
        what="A note that answers one of our notes carries the same hop",
        cost="A loop through another integration never ends",
        file=_EFFECTS,
        changes=(("work.routed.hop + 1)", "work.routed.hop)"),),
        test=f"{_EFFECTS_TEST}::test_a_note_on_the_source_itself_goes_to_the_ticket_it_came_from",
    ),
    Bug(
        name="dead-letter-after-finished",
        what="The dead letter is sent after the event is recorded as finished",
        cost="A worker killed between the two leaves a failed event that nobody can find or requeue",
        file=_PROCESS,
        changes=(
            ("        await _set_aside(exc, routed, routed_offset, key, state.partition, ctx)\n", ""),
            (
                "    state.finished.add(routed.event_id, routed.injection_id)\n    if failed is None:\n",
                "    state.finished.add(routed.event_id, routed.injection_id)\n    if failed is not None:\n"
                "        await _set_aside(failed, routed, routed_offset, key, state.partition, ctx)\n    if failed is None:\n",
            ),
        ),
        test=f"{_EFFECTS_TEST}::test_a_refused_event_is_set_aside_first_and_its_followers_go_on",
    ),
    # --- materialize -----------------------------------------------------------------------------------------------------
    Bug(
        name="commit-before-write",
        what="Materialize calls a batch done before its rows are committed",
        cost="Lag tools say that all is in the tables while it is not, and a reader of the offset misses rows",
        file="streams/agents/materialize.py",
        changes=(
            (
                "        try:\n            applied = await materialize_batch(\n",
                "        batch.done()\n        try:\n            applied = await materialize_batch(\n",
            ),
        ),
        test=f"{_STAGES_TEST}::test_materialize_calls_a_batch_done_when_its_rows_are_committed",
    ),
    Bug(
        name="position-outside-the-transaction",
        what="The position is moved by a statement of its own, before the rows' transaction",
        cost="A full disk or a crash in between leaves a batch out of the tables for ever",
        file=_SQLITE,
        changes=(
            (
                "                with self._transaction():\n                    moved = self._db.execute(_MOVE, "
                "(batch.next_offset, batch.topic, batch.partition, expected)).rowcount\n",
                "                moved = self._db.execute(_MOVE, (batch.next_offset, batch.topic, batch.partition, expected)).rowcount\n"
                "                with self._transaction():\n",
            ),
        ),
        test=f"{_STORE_TEST}::test_a_full_disk_is_rolled_back_and_goes_on_when_there_is_room",
    ),
    Bug(
        name="two-writers",
        what="The position is moved without asking whether it stands where this process left it",
        cost="After a rebalance two materializers count the same calls twice",
        file=_SQLITE,
        changes=(('WHERE topic = ? AND part = ? AND next_offset = ?"\n', 'WHERE topic = ? AND part = ? AND ? >= 0"\n'),),
        test=f"{_STORE_TEST}::TestSqliteKeepsTheContract::test_a_second_materializer_cannot_count_twice",
    ),
    Bug(
        name="fact-id-without-attempt",
        what="A fact's id does not tell a call's attempts apart",
        cost="The retries of a slow tool count as one call: its errors and its cost disappear",
        file="analytics/materializer.py",
        changes=(("_place_hash(call.step, call.attempt, index)", "_place_hash(call.step, 1, index)"),),
        test="tests/analytics/test_materializer.py::test_a_facts_id_tells_event_injection_step_attempt_and_place_apart",
    ),
    Bug(
        name="poison-passed-before-its-letter",
        what="The position passes a record that cannot be read before its dead letter is acknowledged",
        cost="A crash between the two leaves neither a row nor a dead letter of it",
        file="streams/materialize_step.py",
        changes=(
            ("    if aside:\n        await send(aside)\n    while", "    while"),
            ("        raise read.waiting\n    return applied\n", "        raise read.waiting\n    await send(aside)\n    return applied\n"),
        ),
        test="tests/streams/test_materialize_step.py::test_a_dead_letter_is_sent_before_the_position_passes_its_record",
    ),
    # --- what carries them -----------------------------------------------------------------------------------------------
    Bug(
        name="commit-passes-an-unfinished-record",
        what="A finished batch is committed although an earlier one is not finished",
        cost="A worker killed then passes the earlier batch over",
        file="streams/tracker.py",
        changes=(("        while units and units[0].done:\n", "        while units and (units[0].done or units[-1].done):\n"),),
        test="tests/streams/test_tracker.py::test_a_commit_never_passes_an_unfinished_unit_and_reaches_the_end_when_all_are_done",
    ),
    Bug(
        name="dropped-fetch-passed-over",
        what="Records that Faust fetched and dropped are not fetched again",
        cost="Each rebalance or pause may pass over what was fetched in that moment",
        file=_RUNNER,
        changes=(("        if records[0].offset > want and lane.hole != records[0].offset:\n", "        if False:\n"),),
        test=f"{_RUNNER_TEST}::test_what_a_fetch_dropped_is_asked_for_again",
    ),
    Bug(
        name="batch-of-an-old-assignment",
        what="A batch fetched before a partition was given back and got again is still worked on",
        cost="Events are worked on by two workers at once, and out of order",
        file=_RUNNER,
        changes=(("        if lane is not None and lane.assignment is batch.assignment:\n", "        if lane is not None:\n"),),
        test=f"{_RUNNER_TEST}::test_batches_of_an_assignment_that_ended_change_nothing",
    ),
    Bug(
        name="stall-unnoticed",
        what="The watchdog looks only while the stage starts",
        cost="A worker that hangs stays up for days while its lag grows, and nothing says so",
        file=_RUNNER,
        changes=(('self.stage.stall_after and self.state == "running"', 'self.stage.stall_after and self.state == "starting"'),),
        test=f"{_RUNNER_TEST}::test_a_partition_that_stands_still_with_work_waiting_is_noticed",
    ),
    Bug(
        name="oversized-poisons-the-producer",
        what="After a record the broker refuses for its size, the same producer is used on",
        cost="One record too large stops its partition until somebody restarts the worker",
        file="streams/producer.py",
        changes=(
            (
                "                await self._renew(producer)\n                if len(inside) == 1:\n",
                "                if len(inside) == 1:\n",
            ),
        ),
        test="tests/streams/test_producer.py::test_after_an_oversized_record_the_next_ones_are_stored",
    ),
)
