-- By minute: calls of a tenant's tool and how many failed, and events that came from that tool and were finished.
SELECT minute, tenant, tool, calls, errors, events FROM throughput_minute
