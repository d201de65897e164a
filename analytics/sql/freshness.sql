-- How far each partition is in these tables, and what of it added nothing: sent twice, older than the horizon, set aside.
SELECT topic, part, next_offset, last_received_at, records, duplicates, late, refused FROM stream_position
