"""The routes of answers as the OpenAPI document has them."""

from __future__ import annotations

from typing import Any

from featx.serve.answers.asked import LONGEST_NAME, LONGEST_QUESTION, MOST_ANSWERS, TOP_K

Schema = dict[str, Any]

_STATUSES = {
    "400": "What is asked cannot be read",
    "403": "A page of another host asks",
    "404": "No such store, key or model",
    "413": "The body is too large",
    "415": "The body is neither JSON nor a form",
    "422": "The picture is refused (its reason is the code), no model reads the language, or none the store",
    "500": "The server made a mistake, or what is stored is damaged",
    "501": "The server lacks a package",
    "503": "More is asked than can be answered now: Retry-After says when to ask again",
}


def paths() -> dict[str, Any]:
    """The path items."""
    return {"/v1/answer": {"post": _answer()}, "/v1/models": {"get": _models()}}


def _answer() -> Schema:
    key = {**_object({**_QUESTION, "question": _QUESTION["question"]}, "store", "key", "question")}
    picture = _object(
        {**{name: one for name, one in _QUESTION.items() if name != "key"}, "picture": _BINARY}, "picture"
    )
    return {
        "summary": "Answers to a question about a picture, by key or sent",
        "operationId": "answer",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": key}, "multipart/form-data": {"schema": picture}},
        },
        "responses": {"200": _ok("The best answers, surest first", _REPLY), **_errors(*_STATUSES)},
    }


def _models() -> Schema:
    return {
        "summary": "The models that answer",
        "operationId": "models",
        "responses": {"200": _ok("All of them", _object({"models": _list(_MODEL)}, "models"))},
    }


def _object(properties: Schema, *required: str) -> Schema:
    return {
        "type": "object", "properties": properties, "required": list(required), "additionalProperties": False,
    }  # fmt: skip


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _or_null(kind: str) -> Schema:
    return {"type": [kind, "null"]}


def _ok(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _errors(*statuses: str) -> Schema:
    return {status: _ok(_STATUSES[status], _ERROR) for status in statuses}


_TEXT: Schema = {"type": "string"}
_BINARY: Schema = {"type": "string", "format": "binary"}
_ERROR = _object(
    {"error": _object({"code": _TEXT, "message": _TEXT, "hint": _TEXT}, "code", "message", "hint")}, "error"
)
_QUESTION: Schema = {
    "store": {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME},
    "key": {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME},
    "question": {"type": "string", "minLength": 1, "maxLength": LONGEST_QUESTION},
    "language": {**_TEXT, "description": "of the question, such as fr: chooses the model where several are served"},
    "model": {**_TEXT, "description": "by name; default: the first that reads the language and fits the store"},
    "top_k": {"type": "integer", "minimum": 1, "maximum": MOST_ANSWERS, "default": TOP_K},
    "explain": {"type": "boolean", "default": False, "description": "whether to say which regions mattered"},
}
_REPLY = _object(
    {
        "answers": _list(_object({"answer": _TEXT, "score": {"type": "number"}}, "answer", "score")),
        "model": _TEXT,
        "store": _or_null("string"),
        "key": _or_null("string"),
        "size": {**_list({"type": "integer"}), "description": "height and width of the picture, pixels"},
        "boxes": {**_list(_list({"type": "number"})), "description": "x0 y0 x1 y1 of each region, pixels"},
        "weights": {
            "type": ["array", "null"],
            "items": {"type": "number"},
            "description": "of each region, if asked for: how much the score of the first answer falls without it",
        },
        "cut": {"type": "boolean", "description": "whether the question is longer than the model reads"},
        "record": {"type": "object", "description": "of a picture that was sent: its record, as its JSON form has it"},
    },
    "answers", "model", "store", "key", "size", "boxes", "weights", "cut",
)  # fmt: skip
_MODEL = _object(
    {
        "name": _TEXT,
        "kind": _or_null("string"),
        "languages": _list(_TEXT),
        "stores": {
            "type": ["array", "null"], "items": _TEXT,
            "description": "those that it can be asked about; null: it does not say before it is loaded",
        },
        "pictures": {"type": "boolean", "description": "whether it can be shown a picture"},
        "loaded": {"type": "boolean"},
    },
    "name", "kind", "languages", "stores", "pictures", "loaded",
)  # fmt: skip
