"""Why a mutant that survives is accepted, by its file and name. A mutant that is not here is an open question."""

from __future__ import annotations

from collections.abc import Mapping

_SLOWER = "equivalent: the longer way gives the same"
_NEVER = "equivalent: the value is always given"
_PEOPLE = "words for people"
_CUT = "where a text for people is cut"
_BOUND = "a bound by estimate: one more is as good"

_BY_FILE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "plugins/mapping.py": {
        "states what cannot happen": ("_step: removed: raise AssertionError('a singular query has names and indexes only') => (removed)",),
        _SLOWER: (
            "_from_steps: negated: if all((isinstance(step, str) for step in steps)) => "
            "if not all((isinstance(step, str) for step in steps))",
            "FieldMap.__init__: unfiltered: name not in members => (removed)",
            "WordMap.__call__: assigns: found = self._words.get(value) => found = None",
        ),
    },
    "plugins/zendesk/words.py": {
        "equivalent: the change's own name is in the table already": (
            "(module): constant: 'commented' => 'commentedXX'",
            "(module): constant: 'resolved' => 'resolvedXX'",
        ),
    },
    "plugins/zendesk/payload.py": {
        _SLOWER: (
            "ZendeskPayload.ticket_key: constant: 'zen:event-type:' => 'zen:event-type:XX'",
            "ZendeskPayload.metadata: negated: if envelope.type.startswith('zen:event-type:') => "
            "if not envelope.type.startswith('zen:event-type:')",
            "ZendeskPayload.metadata: constant: 'zen:event-type:' => 'zen:event-type:XX'",
        ),
        "equivalent: an address ends in no X": ("ZendeskPayload.__init__: constant: '/' => '/XX'",),
        _CUT: ("ZendeskPayload._event: constant: 80 => 81",),
        "equivalent: what is kept beside the change is read by nobody": (
            "as_event: unfiltered: name not in ('ticket', 'type') => (removed)",
            "as_event: constant: 'ticket' => 'ticketXX' #2",
            "as_event: constant: 'type' => 'typeXX' #3",
        ),
    },
    "plugins/zendesk/sla.py": {"equivalent: only what is below 0 counts": ("_target: constant: 0 => 1",)},
    "plugins/zendesk/webhook_validator.py": {
        "equivalent: every encoding but hex is read as base64": ("hmac_of: constant: 'base64' => 'base64XX'",),
        "equivalent: a reference nobody set has no value": ("ZendeskValidator.__init__: constant: '' => 'XX'",),
    },
    "plugins/zendesk/writes.py": {
        _NEVER: ("Field: constant: False => True",),
        _CUT: (
            "Field._option: constant: 80 => 81",
            "Field._option: constant: 80 => 81 #2",
            "TicketWriter._custom_fields: constant: 80 => 81",
        ),
        _PEOPLE: (
            "TicketWriter.__init__: constant: 'ticket field' => 'ticket fieldXX'",
            "TicketWriter.__init__: constant: 'custom status' => 'custom statusXX'",
            "TicketWriter.__init__: constant: 'brand' => 'brandXX'",
            "TicketWriter.__init__: constant: 'ticket form' => 'ticket formXX'",
            "TicketWriter.__init__: constant: 'group' => 'groupXX'",
        ),
    },
    "plugins/zendesk/api_client.py": {
        _BOUND: (
            "(module): constant: 1000 => 1001",
            "(module): constant: 500 => 501",
            "(module): constant: 120.0 => 121.0",
            "ZendeskClient._rows_of: compares: time.monotonic() > ends => time.monotonic() >= ends",
            "zendesk_error: constant: 8 => 9",
        ),
        "equivalent: the order of two numbers whose least is taken": (
            "ZendeskClient._rows_of: swapped: min(wait * 2, 2.0) => min(2.0, wait * 2)",
        ),
        "either is a job that is not found": ("ZendeskClient._rows_of: constant: '' => 'XX'",),
        "equivalent: the limit, a thousand at most, ends it first": (
            "ZendeskClient.search: computes: MAX_FOUND // PAGE => MAX_FOUND * PAGE",
            "ZendeskClient.search: constant: 1 => 2 #2",
        ),
        "equivalent: the common table knows 200 for a success, too": (
            "zendesk_error: compares: 200 <= answer.status < 300 => 200 < answer.status < 300",
            "zendesk_error: constant: 200 => 201",
        ),
        _PEOPLE: (
            'zendesk_error: constant: "no answer of Zendesk\'s; check base_url" => "no answer of Zendesk\'s; check base_urlXX"',
            "zendesk_error: constant: 'no help desk at this address; check base_url' => 'no help desk at this address; check base_urlXX'",
        ),
    },
    "plugins/zendesk/plugin.py": {
        "equivalent: it is the default": ("ZendeskPlugin.identify: left out: signed=False => (removed)",),
        "without an address there is no call": ("ZendeskPlugin._auth: constant: '' => 'XX'",),
        "equivalent: an address ends in no X": (
            "ZendeskPlugin._auth: constant: '/' => '/XX'",
            "ZendeskPlugin._url: constant: '/' => '/XX'",
        ),
        "a client without its id is refused by Zendesk, whatever stands there": ("ZendeskPlugin._auth: constant: '' => 'XX' #2",),
        _PEOPLE: (
            "ZendeskPlugin.get_ticket_batch: constant: 'ticket ' => 'ticket XX'",
            "ZendeskPlugin.get_ticket_batch: constant: ' is gone, or hidden from our account' => ' is gone, or hidden from our accountXX'",
            "ZendeskPlugin.health_check: constant: 'Zendesk sees us as anonymous; renew auth.api_token and check auth.email' => "
            "'Zendesk sees us as anonymous; renew auth.api_token and check auth.emailXX'",
            "ZendeskPlugin.health_check: constant: 'our account is an end user or suspended; it must be an agent' => "
            "'our account is an end user or suspended; it must be an agentXX'",
        ),
        "equivalent: the order of two numbers whose least is taken": (
            "ZendeskPlugin.search_tickets: swapped: min(limit, MAX_LISTED) => min(MAX_LISTED, limit)",
            "ZendeskPlugin.changed_tickets: swapped: min(limit, MAX_LISTED) => min(MAX_LISTED, limit)",
        ),
        "equivalent: a text without a marker": ("ZendeskPlugin.has_note: constant: '' => 'XX'",),
        "equivalent: a reference nobody set has no value": ("ZendeskPlugin.issue_webhook_token: constant: '' => 'XX'",),
        _NEVER: (
            "ZendeskPlugin.issue_webhook_token: constant: '' => 'XX' #2",
            "ZendeskPlugin.issue_webhook_token: constant: '' => 'XX' #3",
        ),
        _CUT: ("ZendeskPlugin._row: constant: 100 => 101", "_number: constant: 40 => 41"),
    },
}

ACCEPTED: Mapping[tuple[str, str], str] = {
    (file, name): why for file, reasons in _BY_FILE.items() for why, names in reasons.items() for name in names
}
