"""Bodies broken by pasted placeholders: read where there is one way to read them, refused otherwise."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.api import NotADelivery
from plugins.repair import lenient_object, object_or_form


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{"id": INC-372, "priority": Low}', {"id": "INC-372", "priority": "Low"}),
        ('{"id": #SR-12, "n": -4.5, "t": true, "z": null}', {"id": "#SR-12", "n": -4.5, "t": True, "z": None}),
        ('{"a": , "b": }', {"a": None, "b": None}),
        ('{"a": Waiting on, Customer, "b": 2}', {"a": "Waiting on, Customer", "b": 2}),
        ('{"a": NaN, "b": X}', {"a": "NaN", "b": "X"}),
        ('{"s": "one\ntwo\tend"}', {"s": "one\ntwo\tend"}),
        ('{"s": "he said "no" twice", "b": 1}', {"s": 'he said "no" twice', "b": 1}),
        ('{"s": "ends with "one"", "b": 1}', {"s": 'ends with "one"', "b": 1}),
        ('{"s": """}', {"s": '"'}),
        ('{"s": "path C:\\new\\x", "b": X}', {"s": "path C:\new\\x", "b": "X"}),
        ('{"s": "x\\"y", "b": X}', {"s": 'x"y', "b": "X"}),
        ('{"s": "x" , "b": X, }', {"s": "x", "b": "X"}),
        ('{"a": {"b": ["x "y" z", Low, 3]}, "c": Open}', {"a": {"b": ['x "y" z', "Low", 3]}, "c": "Open"}),
        ('{"e": {status:{from:4,to:6}}, "id": 3}', {"e": {"status": {"from": 4, "to": 6}}, "id": 3}),
        ('{"e": {ticket_action:created}}', {"e": {"ticket_action": "created"}}),
        ('{"s": "\\ud800", "b": X}', {"s": "?", "b": "X"}),
    ],
)
def test_what_can_be_read_in_one_way_is_read(body: str, expected: object) -> None:
    """These are the forms automation rules are known to send."""
    assert lenient_object(body.encode()) == expected


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        "[1, 2]",
        '{"a": 1',
        '{"a": "x',
        '{"a": "x"} {"b": 2}',
        '{"a": {{ticket.id}}}',
        '{"a": "x", "a": Low}',
        '{"s": "a "b", "c": d", "x": 1}',
        '{"a": Low "b": 2}',
        '{"a": ' + "x" * 1000 + "}",
        '{"a":' * 60 + "x" + "}" * 60,
        '{"s": ' + "[" * 60 + "x",
    ],
)
def test_what_is_unclear_is_refused(body: str) -> None:
    """A ticket read wrongly is acted on; a dead letter is looked at."""
    with pytest.raises(NotADelivery):
        lenient_object(body.encode())


def test_a_name_written_into_a_subject_cannot_take_another_names_place() -> None:
    """Whoever opens a ticket writes its subject: `", "ticket_id": "1` must not lead our writes to another ticket."""
    subject = 'x "quoted" y", "ticket_id": "1'
    with pytest.raises(NotADelivery, match="comes twice"):
        lenient_object(f'{{"ticket_id": "7", "subject": "{subject}", "status": Open}}'.encode())


_words = st.text(st.characters(blacklist_characters="\\,}]", blacklist_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        ('{"ticket_id": "1", "subject": "x", "ticket_id": "7"}', False),
        ('{"a": {"id": 1, "id": 2}}', False),
        ('{"a": [{"id": 1, "\\u0069d": 2}]}', False),
        ('{"id": 1, "id": 1}', True),
        ('{"id": 1, "a": {"id": 2}}', True),
    ],
)
def test_whole_json_that_says_two_things_of_one_name_is_refused(body: str, whole: bool) -> None:
    """A customer who knows the template can write a subject that closes its quotes and names another ticket: no fault, and no repair."""
    if whole:
        assert lenient_object(body.encode())
    else:
        with pytest.raises(NotADelivery, match="comes twice"):
            lenient_object(body.encode())


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), _words, min_size=1, max_size=5))
def test_a_pasted_text_is_read_back_whatever_stands_in_it(values: dict[str, str]) -> None:
    """Quotes and newlines of a subject are content, not structure."""
    body = "{" + ", ".join(f'"{name}": "{text}"' for name, text in values.items()) + "}"
    try:
        assert lenient_object(body.encode()) == values
    except NotADelivery:
        assert any('"' in text or "\x00" <= text[:1] < " " for text in values.values())


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | st.text('{}[]",:\\ aL1\n', max_size=60).map(str.encode))
def test_no_body_is_answered_with_anything_but_an_object_or_a_refusal(body: bytes) -> None:
    """Bodies come from outside."""
    with contextlib.suppress(NotADelivery):
        assert isinstance(lenient_object(body), dict)


@given(
    st.dictionaries(st.text(max_size=10), st.none() | st.integers(-(2**53), 2**53) | st.text(max_size=30) | st.lists(st.text(max_size=5)))
)
def test_json_is_read_as_json(document: dict[str, object]) -> None:
    """The repair never touches what is not broken."""
    assert lenient_object(json.dumps(document).encode()) == json.loads(json.dumps(document).encode("utf-8", "replace"))


@pytest.mark.parametrize("piece", ['" ', '",', "\\", "a,", '"  \n', ', "', "{", "[", '": '])
def test_a_hostile_body_costs_linear_time(piece: str) -> None:
    """A megabyte of quotes must not stop a partition."""
    body = ('{"s": "' + piece * (300_000 // len(piece))).encode()
    began = time.perf_counter()
    with pytest.raises(NotADelivery):
        lenient_object(body)
    assert time.perf_counter() - began < 2.0


FORM = "application/x-www-form-urlencoded; charset=UTF-8"


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"id=7&subject=a+b%21", FORM, {"id": "7", "subject": "a b!"}),
        (b"anything=%7B%22id%22%3A+7%7D", FORM, {"anything": '{"id": 7}', "id": 7}),
        (b"event=x&payload=%7B%22id%22%3A+7%7D", FORM, {"event": "x", "payload": '{"id": 7}', "id": 7}),
        (b"id=7&description=%7B%22id%22%3A+8%7D", FORM, {"id": "7", "description": '{"id": 8}'}),
        (b"id=7&data=plain", FORM, {"id": "7", "data": "plain"}),
        (b' {"id": 7}', FORM, {"id": 7}),
        (b'\xef\xbb\xbf{"id": 7}', FORM, {"id": 7}),
        (b'\xef\xbb\xbf{"id": INC-7}', "text/plain", {"id": "INC-7"}),
        (b'{"id": 7}', "", {"id": 7}),
    ],
)
def test_a_form_and_json_under_any_content_type_are_read(body: bytes, content_type: str, expected: object) -> None:
    """Script hosts leave their default content type on JSON, and post JSON in a form's only field; a person's words stay words."""
    assert object_or_form(body, content_type) == expected


@pytest.mark.parametrize("body", [b"&".join(b"a%d=1" % n for n in range(300)), b"payload=%7B%22id%22%3A"])
def test_a_form_that_is_too_large_or_holds_broken_json_is_no_delivery(body: bytes) -> None:
    """Bounded and clear, as everything from outside."""
    with pytest.raises(NotADelivery):
        object_or_form(body, FORM)
