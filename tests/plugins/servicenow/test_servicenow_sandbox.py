"""The small ServiceNow itself: what people and clients nobody here wrote rely on, asked in process."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.sandbox.http import Request, Response
from plugins.sandbox.server import Actor
from plugins.servicenow.sandbox import ServiceNowSandbox
from plugins.servicenow.sandbox_accounts import GUEST, OURS, PERSON
from plugins.servicenow.sandbox_query import matching, parse
from plugins.servicenow.sandbox_schema import a_sys_id, choices, columns, derives, dictionary

INCIDENT = "/api/now/v2/table/incident"


@pytest.fixture
def sandbox() -> ServiceNowSandbox:
    return ServiceNowSandbox()


def ask(
    sandbox: ServiceNowSandbox,
    method: str,
    path: str,
    body: Any = None,
    *,
    as_: str = OURS,
    headers: dict[str, str] | None = None,
    **query: str,
) -> Response:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    request = Request(method, path, urlencode(query), headers or {}, raw, actor=Actor(as_, as_ == PERSON, as_))
    return sandbox._handle(request)


def result(response: Response) -> Any:
    return json.loads(response.body)["result"]


def an_incident(sandbox: ServiceNowSandbox, **fields: Any) -> dict[str, Any]:
    row: dict[str, Any] = result(ask(sandbox, "POST", INCIDENT, {"short_description": "Lift", **fields}))
    return row


# queries -----------------------------------------------------------------------------------------------------------------

ROWS = [
    {"n": "1", "state": "1", "text": "Red lift", "who": ""},
    {"n": "2", "state": "2", "text": "Blue lift", "who": "ada"},
    {"n": "3", "state": "2", "text": "a^b", "who": "omar"},
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "123"),
        ("state=2", "23"),
        ("state=2^who=ada", "2"),
        ("state=1^ORwho=omar", "13"),
        ("state=1^NQwho=ada", "12"),
        ("stateIN1,2^ORDERBYDESCn", "321"),
        ("state!=2", "1"),
        ("stateNOT IN1", "23"),
        ("textLIKElift", "12"),
        ("textSTARTSWITHblue^ORtextENDSWITHb", "23"),
        ("textDOES NOT CONTAINlift", "3"),
        ("text=a^^b", "3"),
        ("whoISEMPTY", "1"),
        ("whoISNOTEMPTY^n>2", "3"),
        ("n>=2^n<3", "2"),
        ("n<=1", "1"),
        ("typo=2", "123"),
        ("typo=2^state=1", "1"),
        ("%%%", "123"),
        ("^EQ", "123"),
    ],
)
def test_an_encoded_query_selects_as_on_an_instance(query: str, found: str) -> None:
    """A condition on a column there is not is dropped: whoever relies on one gets every record."""
    rows = matching(ROWS, parse(query), lambda row, name: row.get(name))
    assert "".join(row["n"] for row in rows) == found


@given(st.text(max_size=40))
def test_any_text_is_a_query(text: str) -> None:
    """A sandbox that fails on a client's query hides the client's own fault."""
    matching(ROWS, parse(text), lambda row, name: row.get(name))


# values ------------------------------------------------------------------------------------------------------------------


def test_a_value_is_shown_raw_as_a_label_or_as_both(sandbox: ServiceNowSandbox) -> None:
    """Raw times are UTC, shown ones the user's; an empty reference is text; dots lead through references."""
    row = an_incident(sandbox, caller_id=a_sys_id("sys_user", "cora.caller"))
    path = f"{INCIDENT}/{row['sys_id']}"
    assert row["caller_id"]["value"] == a_sys_id("sys_user", "cora.caller") and row["caller_id"]["link"].endswith(row["caller_id"]["value"])
    assert (row["assigned_to"], row["state"], row["active"]) == ("", "1", "true")
    both = result(ask(sandbox, "GET", path, sysparm_display_value="all", sysparm_exclude_reference_link="true"))
    assert both["state"] == {"display_value": "New", "value": "1"}
    assert both["caller_id"] == {"display_value": "Cora Caller", "value": a_sys_id("sys_user", "cora.caller")}
    assert both["sys_created_on"]["display_value"] != both["sys_created_on"]["value"] == row["sys_created_on"]
    labels = result(ask(sandbox, "GET", path, sysparm_display_value="true", sysparm_fields="state,caller_id,caller_id.email,no_such"))
    assert labels["state"] == "New" and labels["caller_id"]["display_value"] == "Cora Caller"
    assert labels["caller_id.email"] == "cora.caller@desk.example" and "no_such" not in labels


def test_a_parent_table_shows_its_own_columns_of_a_record(sandbox: ServiceNowSandbox) -> None:
    """sys_class_name tells the table the rest is in."""
    row = an_incident(sandbox)
    through = result(ask(sandbox, "GET", f"/api/now/table/task/{row['sys_id']}"))
    assert through["sys_class_name"] == "incident" and "caller_id" not in through and "number" in through
    assert ask(sandbox, "GET", f"/api/now/table/problem/{row['sys_id']}").status == 404


def test_a_page_is_counted_before_rights_and_tells_its_neighbours(sandbox: ServiceNowSandbox) -> None:
    """Short pages are no end; Link and X-Total-Count are."""
    for n in range(7):
        an_incident(sandbox, short_description=f"t{n}")
    page = ask(
        sandbox, "GET", INCIDENT, sysparm_limit="3", sysparm_offset="3", sysparm_query="ORDERBYnumber", sysparm_fields="short_description"
    )
    assert [row["short_description"] for row in result(page)] == ["t3", "t4", "t5"]
    assert page.headers["x-total-count"] == "7"
    for rel, offset in (("first", 0), ("prev", 0), ("next", 6), ("last", 6)):
        assert f'sysparm_offset={offset}>;rel="{rel}"' in page.headers["link"]
    hidden = ask(sandbox, "GET", INCIDENT, as_=GUEST)
    assert (result(hidden), hidden.headers["x-total-count"]) == ([], "7")
    bare = ask(sandbox, "GET", INCIDENT, sysparm_suppress_pagination_header="true", sysparm_no_count="true")
    assert "link" not in bare.headers and "x-total-count" not in bare.headers


def test_an_empty_list_is_404_in_version_one_only(sandbox: ServiceNowSandbox) -> None:
    """Old clients know it so."""
    assert ask(sandbox, "GET", "/api/now/v1/table/incident").status == 404
    assert result(ask(sandbox, "GET", INCIDENT)) == []
    assert json.loads(ask(sandbox, "GET", "/api/now/table/no_such").body)["error"]["message"] == "Invalid table no_such"


# writes ------------------------------------------------------------------------------------------------------------------


def test_what_may_not_be_written_is_dropped_without_a_word(sandbox: ServiceNowSandbox) -> None:
    """Unknown columns, read-only ones, and a priority that is computed."""
    row = an_incident(sandbox, priority="1", impact="2", urgency="2", u_sealed="x", no_such="y", sys_id="z", number="INC1")
    assert (row["priority"], row["u_sealed"]) == ("3", "")
    assert "no_such" not in row and len(row["sys_id"]) == 32 and row["number"] != "INC1"


def test_labels_are_taken_where_the_caller_says_so(sandbox: ServiceNowSandbox) -> None:
    """sysparm_input_display_value turns labels into values."""
    row = an_incident(sandbox)
    path = f"{INCIDENT}/{row['sys_id']}"
    assert result(ask(sandbox, "PATCH", path, {"u_site": "Building Two"}, sysparm_input_display_value="true"))["u_site"] == "b2"
    assert result(ask(sandbox, "PATCH", path, {"u_site": "Building Two"}))["u_site"] == "Building Two"


def test_a_state_wants_its_fields_and_its_order(sandbox: ServiceNowSandbox) -> None:
    """403 names the mandatory fields, or the rule that keeps the order."""
    row = an_incident(sandbox)
    path = f"{INCIDENT}/{row['sys_id']}"
    missing = json.loads(ask(sandbox, "PATCH", path, {"state": "6"}).body)["error"]
    assert missing["message"] == "Operation Failed" and "mandatory: Resolution code, Resolution notes" in missing["detail"]
    assert ask(sandbox, "PATCH", path, {"state": "7"}).status == 403
    assert "Business Rule" in json.loads(ask(sandbox, "PATCH", path, {"state": "7"}).body)["error"]["detail"]
    assert result(ask(sandbox, "GET", path))["state"] == "1"
    done = result(ask(sandbox, "PATCH", path, {"state": "6", "close_code": "Solution provided", "close_notes": "x"}))
    assert (done["state"], done["incident_state"], done["sys_mod_count"]) == ("6", "6", "1")


def test_a_write_that_changes_nothing_leaves_no_trace(sandbox: ServiceNowSandbox) -> None:
    """sys_mod_count stays, and nobody is told."""
    row = an_incident(sandbox)
    seen = len(sandbox.ledger.rows())
    again = result(ask(sandbox, "PUT", f"{INCIDENT}/{row['sys_id']}", {"short_description": "Lift"}))
    assert again["sys_mod_count"] == "0" and len(sandbox.ledger.rows()) == seen


def test_a_guests_write_is_answered_and_not_done(sandbox: ServiceNowSandbox) -> None:
    """ACLs on columns answer 200."""
    row = an_incident(sandbox)
    answer = ask(sandbox, "PATCH", f"{INCIDENT}/{row['sys_id']}", {"short_description": "x", "work_notes": "y"}, as_=GUEST)
    assert (answer.status, result(answer)["short_description"]) == (200, "Lift")
    assert ask(sandbox, "POST", INCIDENT, {}, as_=GUEST).status == 403


def test_a_body_that_is_no_object_is_refused_and_none_is_sent_on_demand(sandbox: ServiceNowSandbox) -> None:
    """400 in the instance's envelope; X-no-response-body saves the answer."""
    row = an_incident(sandbox)
    for method, path in (("POST", INCIDENT), ("PATCH", f"{INCIDENT}/{row['sys_id']}"), ("POST", "/api/now/v1/batch")):
        assert ask(sandbox, method, path, b"[1").status == 400
    quiet = ask(sandbox, "PATCH", f"{INCIDENT}/{row['sys_id']}", {"description": "x"}, headers={"x-no-response-body": "true"})
    assert (quiet.status, quiet.body) == (200, b"")
    assert ask(sandbox, "DELETE", f"{INCIDENT}/{row['sys_id']}").status == 204
    for method in ("GET", "PATCH", "DELETE"):
        assert ask(sandbox, method, f"{INCIDENT}/{row['sys_id']}", {}).status == 404


# the other APIs ----------------------------------------------------------------------------------------------------------


def test_a_batch_answers_each_request_in_base64_with_line_ends(sandbox: ServiceNowSandbox) -> None:
    """The outer 200 says nothing about the inner ones."""
    row = an_incident(sandbox, description="x" * 200)
    requests = [
        {"id": "a", "method": "GET", "url": f"{INCIDENT}/{row['sys_id']}?sysparm_fields=number,description"},
        {"id": "b", "method": "GET", "url": f"{INCIDENT}/{'0' * 32}"},
        {"id": "c", "method": "PATCH", "url": f"{INCIDENT}/{row['sys_id']}", "body": base64.b64encode(b'{"state":"2"}').decode()},
    ]
    answer = json.loads(ask(sandbox, "POST", "/api/now/v1/batch", {"batch_request_id": 7, "rest_requests": requests}).body)
    assert (answer["batch_request_id"], answer["unserviced_requests"]) == ("7", [])
    assert {item["id"]: item["status_code"] for item in answer["serviced_requests"]} == {"a": 200, "b": 404, "c": 200}
    first = answer["serviced_requests"][0]["body"]
    assert "\n" in first.strip() and json.loads(base64.b64decode(first))["result"]["number"] == row["number"]


def test_a_file_is_taken_raw_and_as_a_form_and_forgotten(sandbox: ServiceNowSandbox) -> None:
    """Both endpoints of the Attachment API; its numbers are text."""
    row = an_incident(sandbox)
    where = {"table_name": "incident", "table_sys_id": row["sys_id"]}
    raw = ask(sandbox, "POST", "/api/now/attachment/file", b"\x00\x01", headers={"content-type": "a/b"}, file_name="a.bin", **where)
    assert (raw.status, result(raw)["size_bytes"]) == (201, "2") and raw.headers["location"].endswith(result(raw)["sys_id"])
    form = b""
    for name, value in where.items():
        form += f'--X\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    form += (
        b'--X\r\nContent-Disposition: form-data; name="uploadFile"; filename="b.txt"\r\nContent-Type: text/plain\r\n\r\nhello\r\n--X--\r\n'
    )
    upload = ask(sandbox, "POST", "/api/now/attachment/upload", form, headers={"content-type": "multipart/form-data; boundary=X"})
    assert result(upload)["file_name"] == "b.txt"
    listed = ask(sandbox, "GET", "/api/now/v1/attachment", sysparm_query=f"table_sys_id={row['sys_id']}^ORDERBYfile_name")
    assert [item["file_name"] for item in result(listed)] == ["a.bin", "b.txt"] and listed.headers["x-total-count"] == "2"
    attachment = f"/api/now/attachment/{result(raw)['sys_id']}"
    assert ask(sandbox, "GET", f"{attachment}/file").body == b"\x00\x01"
    assert ask(sandbox, "DELETE", attachment).status == 204
    for path in (attachment, f"{attachment}/file"):
        assert ask(sandbox, "GET", path).status == 404
    assert ask(sandbox, "DELETE", attachment).status == 404
    assert ask(sandbox, "POST", "/api/now/attachment/upload", b"", headers={}).status == 400
    assert ask(sandbox, "POST", "/api/now/attachment/file", b"x", table_name="incident", table_sys_id="0" * 32, file_name="a").status == 404
    assert ask(sandbox, "POST", "/api/now/attachment/file", b"x", **where).status == 400


def test_the_change_api_writes_json_types(sandbox: ServiceNowSandbox) -> None:
    """-5.0 where the Table API writes "-5"."""
    made = result(ask(sandbox, "POST", "/api/sn_chg_rest/v1/change/emergency", {"short_description": "UPS"}))
    assert (made["state"], made["type"]["display_value"]) == ({"display_value": "New", "value": -5.0}, "Emergency")
    shown = result(ask(sandbox, "GET", f"/api/sn_chg_rest/v1/change/{made['sys_id']['value']}"))
    assert shown["number"] == made["number"]
    assert ask(sandbox, "POST", "/api/sn_chg_rest/change/urgent", {}).status == 400
    assert ask(sandbox, "GET", f"/api/sn_chg_rest/change/{'0' * 32}").status == 404


def test_the_cmdb_instance_api_shows_an_item_from_both_sides(sandbox: ServiceNowSandbox) -> None:
    """Outbound is where the item is the parent."""
    web = a_sys_id("cmdb_ci", "web")
    listed = result(ask(sandbox, "GET", "/api/now/cmdb/instance/cmdb_ci_server", sysparm_limit="5"))
    assert listed == [{"sys_id": web, "name": "web-07"}]
    shown = result(ask(sandbox, "GET", f"/api/now/v1/cmdb/instance/cmdb_ci_linux_server/{web}"))
    assert shown["attributes"]["serial_number"] == "SN-4711"
    assert [edge["target"]["display_value"] for edge in shown["outbound_relations"]] == ["orders-db"]
    assert [edge["type"]["display_value"] for edge in shown["inbound_relations"]] == ["Runs on::Runs"]
    assert ask(sandbox, "GET", "/api/now/cmdb/instance/incident").status == 400
    assert ask(sandbox, "GET", f"/api/now/cmdb/instance/cmdb_ci_database/{web}").status == 404


def test_tokens_are_given_to_our_application_only(sandbox: ServiceNowSandbox) -> None:
    """In the form or in a Basic header; an assertion of somebody else's key is refused."""
    client = sandbox.accounts.client
    basic = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()

    def grant(form: dict[str, str], headers: dict[str, str] | None = None) -> Any:
        request = Request("POST", "/oauth_token.do", "", headers or {}, urlencode(form).encode())
        request.actor = sandbox.actor_of(request)
        answer = sandbox._handle(request)
        return answer.status, json.loads(answer.body)

    status, told = grant({"grant_type": "client_credentials", **client})
    assert (status, told["token_type"], told["expires_in"], "refresh_token" in told) == (200, "Bearer", 1799, False)
    assert grant({"grant_type": "client_credentials"}, {"authorization": f"Basic {basic}"})[0] == 200
    status, told = grant({"grant_type": "password", "username": PERSON, "password": sandbox.accounts.password(PERSON), **client})
    assert status == 200
    assert grant({"grant_type": "refresh_token", "refresh_token": told["refresh_token"], **client})[0] == 200
    bearer = Request("GET", INCIDENT, headers={"authorization": f"Bearer {told['access_token']}"})
    actor = sandbox.actor_of(bearer)
    assert actor is not None and actor.person
    jwt_grant = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "a.b.c"}
    for form in ({"grant_type": "magic"}, {"grant_type": "password", "username": PERSON, "password": "x"}, jwt_grant):
        assert grant({**form, **client}) == (401, {"error_description": "access_denied", "error": "server_error"})
    assert grant({"grant_type": "client_credentials", "client_id": "x"})[1]["error"] == "invalid_client"


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Basic !"}, {"authorization": "Bearer x"}, {"x-sn-apikey": "x"}, {"authorization": "Digest"}]
)
def test_wrong_credentials_are_nobody(sandbox: ServiceNowSandbox, headers: dict[str, str]) -> None:
    """401 in the instance's envelope."""
    request = Request("GET", INCIDENT, headers=headers)
    assert sandbox.actor_of(request) is None
    answer = sandbox._handle(request)
    assert (answer.status, json.loads(answer.body)["error"]["message"]) == (401, "User Not Authenticated")


def test_faults_have_the_instances_form(sandbox: ServiceNowSandbox) -> None:
    """Clients read the envelope, not the status alone."""
    for status in (400, 401, 403, 404, 405, 429, 500, 503):
        answer = sandbox.refusal(status, Request("GET", INCIDENT))
        told = json.loads(answer.body)
        assert (answer.status, told["status"]) == (status, "failure") and told["error"]["message"]
    assert "retry-after" in sandbox.refusal(429, Request("GET", INCIDENT)).headers


def test_people_work_in_it_in_canonical_words(sandbox: ServiceNowSandbox) -> None:
    """What the demo and the kit ask of every sandbox."""
    request = Request("POST", "/_people/tickets")
    for kind, table in (("incident", "incident"), ("change", "change_request"), ("problem", "problem"), ("request", "sc_req_item")):
        words = {"subject": "s", "type": kind, "priority": "high", "status": "open", "tags": ["t"]}
        sys_id = sandbox.person_creates(words, request)
        row = sandbox.records.any(sys_id)
        assert row is not None and (row["_table"], row["priority"], row["sys_created_by"]) == (table, "2", "cora.caller")
        assert sandbox.person_updates(sys_id, {"priority": "low", "status": "closed", "comment": "hi", "public": False}, request)
        assert row["priority"] == "4" and row["sys_updated_by"] == PERSON
    assert not sandbox.person_updates("0" * 32, {}, request)


def test_the_schema_holds_together() -> None:
    """Every table shows its parents' columns; choices and the dictionary speak of columns there are."""
    assert derives("cmdb_ci_linux_server", "cmdb_ci") and not derives("incident", "problem")
    assert {"number", "caller_id", "sys_id"} <= set(columns("incident"))
    assert choices("incident", "state")["3"] == "On Hold" and choices("sc_task", "state")["3"] == "Closed Complete"
    assert len({row["sys_id"] for row in dictionary()}) == len(dictionary())
