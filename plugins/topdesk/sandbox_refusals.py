"""How a small TOPdesk refuses: a list of messages under 400, an empty body or a page elsewhere, in the language that was asked for."""

from __future__ import annotations

from collections.abc import Mapping

from plugins.sandbox.http import Request, Response, json_response

DUTCH: Mapping[str, str] = {
    "The value for the field": "De waarde voor het veld",
    "The field": "Het veld",
    "cannot be found": "kan niet worden gevonden",
    "does not exist": "bestaat niet",
    "is too long": "is te lang",
    "is mandatory": "is verplicht",
    "The incident is archived": "De melding is gearchiveerd",
}


class Refused(Exception):
    """A value the tool does not take; its text is the message."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def refused(status: int, request: Request, message: str = "") -> Response:
    """400 and what else has a message carries a list of them; 401 and 404 are empty, 5xx a page."""
    if message or status in (400, 422):
        text = message or "The request contains a value that is not allowed."
        if request.headers.get("accept-language", "").lower().startswith("nl"):
            for english, dutch in DUTCH.items():
                text = text.replace(english, dutch)
        return json_response([{"message": text}], status)
    headers = {"www-authenticate": 'Basic realm="TOPdesk"'} if status == 401 else {}
    if status >= 500:
        return Response(status, b"<html><body>TOPdesk is not available</body></html>", {"content-type": "text/html", **headers})
    return Response(status, b"", headers)
