-- Events set aside, with their reason and where the original lies. event_id is 32 hexadecimal digits.
SELECT failed_at, tenant, tool, ticket_id, stage, reason, detail, attempts, origin_topic, origin_partition, origin_offset,
       original_size, LOWER(HEX(event_id)) AS event_id, injection_id
FROM dead_letter
