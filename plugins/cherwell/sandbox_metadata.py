"""What a small Cherwell tells of its business objects: names, schemas, templates, allowed values."""

from __future__ import annotations

from plugins.cherwell.sandbox_objects import NO_ERROR, OBJECTS, by_id, by_name, group_summary, schema, summary, template_item
from plugins.cherwell.sandbox_state import CherwellState, given_in
from plugins.sandbox.http import Request, Response, json_response, route


class MetadataCalls(CherwellState):
    """Names to ids."""

    @route("GET", "/cherwellapi/api/v1/getbusinessobjectsummary/busobname/{name}")
    def summary_by_name(self, request: Request) -> Response:
        found = by_name(request.params["name"])
        group = group_summary(request.params["name"])
        return json_response([summary(found)] if found else [group] if group else [])

    @route("GET", "/cherwellapi/api/v1/getbusinessobjectsummary/busobid/{id}")
    def summary_by_id(self, request: Request) -> Response:
        found = by_id(request.params["id"])
        return json_response([summary(found)] if found else [])

    @route("GET", "/cherwellapi/api/v1/getbusinessobjectsummaries/type/{type}")
    def summaries(self, request: Request) -> Response:
        return json_response([summary(made) for made in OBJECTS])

    @route("GET", "/cherwellapi/api/v1/getbusinessobjectschema/busobid/{id}")
    def schema(self, request: Request) -> Response:
        made = by_id(request.params["id"])
        wanted = {name.lower(): value.lower() for name, value in request.query.items()}.get("includerelationships") == "true"
        return json_response(schema(made, relationships=wanted)) if made else self._failed("BUSOBNOTFOUND", 400)

    @route("POST", "/cherwellapi/api/v1/getbusinessobjecttemplate")
    def template(self, request: Request) -> Response:
        given = given_in(request)
        made = by_id(str(given.get("busobid") or ""))
        if made is None:
            return self._failed("BUSOBNOTFOUND", 400)
        names = [str(name).lower() for name in given.get("fieldnames") or ()]
        fields = [
            template_item(made, f, "")
            for f in made.fields
            if given.get("includeall") or (given.get("includerequired") and f.required) or f.name.lower() in names
        ]
        return json_response({"fields": fields, **NO_ERROR})

    @route("POST", "/cherwellapi/api/v1/fieldvalueslookup")
    def lookup(self, request: Request) -> Response:
        given = given_in(request)
        made = by_id(str(given.get("busobid") or ""))
        found = made.field(str(given.get("fieldid") or given.get("fieldname") or "")) if made else None
        return json_response({"values": list(found.allowed), **NO_ERROR}) if found else self._failed("FIELDNOTFOUND", 400)
