"""A client nobody here wrote works against the sandbox: pycherwell, generated from the product's own description."""

from __future__ import annotations

import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from plugins.sandbox.process import SandboxProcess

pycherwell = pytest.importorskip("pycherwell", reason="the test client pycherwell is not installed")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("cherwell") as process:
        yield process


@pytest.fixture
def client(sandbox: SandboxProcess) -> Any:
    import json

    auth = sandbox.credentials["auth"]
    form = urllib.parse.urlencode({"grant_type": "password", **auth}).encode()
    with urllib.request.urlopen(f"{sandbox.base_url}/CherwellAPI/token?auth_mode=Internal", data=form, timeout=10) as answer:
        token = json.loads(answer.read())
    assert (token["token_type"], token["expires_in"]) == ("bearer", 1199)
    return an_api(sandbox, token["access_token"])


def an_api(sandbox: SandboxProcess, token: str) -> Any:
    configuration = pycherwell.Configuration()
    configuration.host = f"{sandbox.base_url}/CherwellAPI"
    return pycherwell.ApiClient(configuration, header_name="Authorization", header_value=f"Bearer {token}")


def fields_of(objects: Any, object_id: str, values: dict[str, str]) -> list[Any]:
    """As its README does: a template, the values put in, the rest dropped."""
    template = objects.business_object_get_business_object_template_v1(pycherwell.TemplateRequest(bus_ob_id=object_id, include_all=True))
    found = []
    for item in template.fields:
        if item.name in values:
            item.value, item.dirty = values[item.name], True
            found.append(item)
    return found


def test_it_makes_reads_changes_searches_and_deletes(client: Any, sandbox: SandboxProcess) -> None:
    """The life of an incident, with every id looked up."""
    objects = pycherwell.BusinessObjectApi(client)
    (summary,) = objects.business_object_get_business_object_summary_by_name_v1("Incident")
    object_id = summary.bus_ob_id
    assert (summary.name, summary.group) == ("Incident", False)
    values = {"ShortDescription": "Lift stuck", "Priority": "1"}
    request = pycherwell.SaveRequest(bus_ob_id=object_id, fields=fields_of(objects, object_id, values), persist=True)
    saved = objects.business_object_save_business_object_v1(request)
    assert saved.has_error is False
    read = objects.business_object_get_business_object_by_public_id_v1(object_id, saved.bus_ob_public_id)
    assert {f.name: f.value for f in read.fields}["ShortDescription"] == "Lift stuck"
    assert (
        objects.business_object_get_business_object_by_rec_id_v1(object_id, saved.bus_ob_rec_id).bus_ob_public_id == saved.bus_ob_public_id
    )
    change = fields_of(objects, object_id, {"Status": "Pending"})
    request = pycherwell.SaveRequest(bus_ob_id=object_id, bus_ob_rec_id=saved.bus_ob_rec_id, fields=change, persist=True)
    objects.business_object_save_business_object_v1(request)
    schema = objects.business_object_get_business_object_schema_v1(object_id, includerelationships=True)
    status = next(f.field_id for f in schema.field_definitions if f.name == "Status")
    assert "Incident Owns Journals" in [r.display_name for r in schema.relationships]
    searches = pycherwell.SearchesApi(client)
    wanted = [pycherwell.FilterInfo(field_id=status, operator="eq", value="Pending")]
    pages = [
        searches.searches_get_search_results_ad_hoc_v1(
            pycherwell.SearchResultsRequest(bus_ob_id=object_id, filters=wanted, include_all_fields=True, page_number=page, page_size=1)
        )
        for page in (1, 2)
    ]
    assert [len(page.business_objects) for page in pages] == [1, 0] and pages[0].total_rows == 1
    assert [row["kind"] for row in sandbox.ledger()] == ["create", "update"]
    objects.business_object_delete_business_object_by_public_id_v1(object_id, saved.bus_ob_public_id)
    with pytest.raises(pycherwell.ApiException) as caught:
        objects.business_object_get_business_object_by_public_id_v1(object_id, saved.bus_ob_public_id)
    assert caught.value.status == 404 and "RECORDNOTFOUND" in str(caught.value)


def test_it_reads_and_saves_in_batches(client: Any) -> None:
    """Errors of single items come inside a success."""
    objects = pycherwell.BusinessObjectApi(client)
    object_id = objects.business_object_get_business_object_summary_by_name_v1("Problem")[0].bus_ob_id
    saves = [
        pycherwell.SaveRequest(bus_ob_id=object_id, fields=fields_of(objects, object_id, {"ShortDescription": name}) if name else [])
        for name in ("one", "", "two")
    ]
    done = objects.business_object_save_business_object_batch_v1(pycherwell.BatchSaveRequest(save_requests=saves, stop_on_error=False))
    assert [row.has_error for row in done.responses] == [False, True, False]
    reads = [pycherwell.ReadRequest(bus_ob_id=object_id, bus_ob_public_id=i) for i in (done.responses[0].bus_ob_public_id, "99999")]
    read = objects.business_object_get_business_object_batch_v1(pycherwell.BatchReadRequest(read_requests=reads))
    assert [row.has_error for row in read.responses] == [False, True]


def test_it_asks_the_service_and_meets_its_own_errors(client: Any, sandbox: SandboxProcess) -> None:
    """Version and culture; a wrong token and a busy server by the client's own exception."""
    info = pycherwell.ServiceApi(client).service_get_service_info_v1()
    assert (info.csm_culture, info.api_version) == ("en-US", "10.2.0")
    with pytest.raises(pycherwell.ApiException) as caught:
        pycherwell.ServiceApi(an_api(sandbox, "wrong")).service_get_service_info_v1()
    assert caught.value.status == 401
    sandbox.fault(status=503, times=1)
    with pytest.raises(pycherwell.ApiException) as caught:
        pycherwell.ServiceApi(client).service_get_service_info_v1()
    assert caught.value.status == 503


def test_it_adds_a_journal_by_its_relationship(client: Any) -> None:
    """As a related business object, read back over the relationship."""
    objects = pycherwell.BusinessObjectApi(client)
    object_id = objects.business_object_get_business_object_summary_by_name_v1("Incident")[0].bus_ob_id
    group = objects.business_object_get_business_object_summary_by_name_v1("Journal")[0]
    assert group.group is True and [member.name for member in group.group_summaries] == ["JournalNote"]
    journal_id = group.group_summaries[0].bus_ob_id
    values = fields_of(objects, object_id, {"ShortDescription": "with a note"})
    made = objects.business_object_save_business_object_v1(pycherwell.SaveRequest(bus_ob_id=object_id, fields=values, persist=True))
    schema = objects.business_object_get_business_object_schema_v1(object_id, includerelationships=True)
    relation = next(r.relationship_id for r in schema.relationships if r.display_name == "Incident Owns Journals")
    note = pycherwell.RelatedSaveRequest(
        parent_bus_ob_id=object_id,
        parent_bus_ob_rec_id=made.bus_ob_rec_id,
        relationship_id=relation,
        bus_ob_id=journal_id,
        fields=fields_of(objects, journal_id, {"Details": "seen"}),
        persist=True,
    )
    assert objects.business_object_save_related_business_object_v1(note).has_error is False
    listed = objects.business_object_get_related_business_object_v1(object_id, made.bus_ob_rec_id, relation, page_number=1, page_size=10)
    assert listed.total_records == 1
    assert {f.name: f.value for f in listed.related_business_objects[0].fields}["Details"] == "seen"
