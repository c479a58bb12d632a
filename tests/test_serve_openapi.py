"""The OpenAPI document is true: schemathesis makes requests of it, good ones and bad ones, and judges the answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.routing import Route

from featx.serve.plan import Plan, application, extensions
from featx.serve.settings import Settings
from tests.serving import KEYS, make_stores, serving

TOKEN = "sixteen-letters-or-more"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    stores = make_stores(tmp_path_factory.mktemp("stores"))
    return Plan(Settings(token=TOKEN), tuple((name, str(path)) for name, path in stores.items()))


@pytest.fixture(scope="module")
def api(plan: Plan) -> Iterator[Any]:
    """The document of a server that runs."""
    mounts = plan.mounts()
    with serving(mounts, tuple(extensions(plan, mounts)), token=TOKEN) as server:
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")


def tried(api: Any, mode: GenerationMode, check: Any) -> int:
    """Requests of every operation of which there can be such; how many these are."""
    count = 0
    for found in api.get_all_operations():
        operation = found.ok()
        chosen = settings(max_examples=6, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
        with suppress(Unsatisfiable):  # one without parameters cannot be asked wrongly
            chosen(given(operation.as_strategy(generation_mode=mode))(check))()
            count += 1
    return count


def sent(case: schemathesis.Case) -> None:
    response = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
    excluded = [positive_data_acceptance]  # a key must be text, which no schema can say
    if response.status_code == 413:  # too long comes before everything else that is wrong
        excluded.append(negative_data_rejection)
    case.validate_response(response, headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=excluded)


def test_good_requests_are_answered_as_the_document_says(api: Any) -> None:
    def aimed(case: schemathesis.Case) -> None:
        """At what is there: by chance nobody finds a store."""
        place = {"store": "lmdb", "key": KEYS[0]}
        case.path_parameters = {name: place[name] for name in case.path_parameters or {}}
        sent(case)

    assert tried(api, GenerationMode.POSITIVE, sent) >= 13
    tried(api, GenerationMode.POSITIVE, aimed)


def test_bad_requests_are_answered_as_the_document_says(api: Any) -> None:
    assert tried(api, GenerationMode.NEGATIVE, sent) >= 6


def test_the_document_has_every_route_and_no_other(plan: Plan, api: Any) -> None:
    app = application(plan)
    served = {re.sub(r":\w+}", "}", route.path) for route in app.routes if isinstance(route, Route)}
    assert set(api.raw_schema["paths"]) == served


def test_the_document_is_openapi(api: Any) -> None:
    api.validate()
