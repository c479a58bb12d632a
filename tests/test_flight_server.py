"""Stores over Arrow Flight, as a program that knows Arrow and nothing of featx sees them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from featx.codec import encode
from featx.errors import UsageError
from featx.schema import Field, Schema
from featx.serve.flight import FlightService, serve_flight
from featx.serve.flight.server import Server
from featx.serve.flight.tickets import Limits
from featx.serve.mounted import Mounts
from featx.serve.settings import Settings
from featx.store import create_store, open_part, open_store
from tests.flight_calls import act, client_of, get, served
from tests.store_oracle import FIXED, KINDS, PROVENANCE, REFUSED, SCHEMA, make_store, names, record_of

COUNT = 20
REFUSED_NAMES = names(COUNT)[REFUSED - 1 :: REFUSED]
STORED_NAMES = [name for name in names(COUNT) if name not in REFUSED_NAMES]
ORDINALS = {name: place for place, name in enumerate(names(COUNT))}
LARGE = Schema((Field("features", "float16", (2048,)), Field("boxes", "float32", (4,))), rows=36)  # 148 KB a record


def stored(name: str, schema: Schema = SCHEMA, ordinal: int | None = None) -> bytes:
    return encode(record_of(name, schema), schema, name.encode(), ORDINALS[name] if ordinal is None else ordinal)


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def schema(kind: str) -> Schema:
    return KINDS[kind].schema


@pytest.fixture(scope="module")
def service(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlightService]:
    folder = tmp_path_factory.mktemp("served")
    path = make_store(folder / "one", KINDS[kind].backend, COUNT, 3, KINDS[kind].schema)
    with served(one=path) as running:
        yield running


@pytest.mark.parametrize("form", ["records", "views"])
def test_records_are_the_stored_bytes_in_the_order_asked(service: FlightService, schema: Schema, form: str) -> None:
    asked = [*reversed(STORED_NAMES), STORED_NAMES[0]]
    table = get(service, {"store": "one", "keys": asked, "form": form})
    assert table["key"].to_pylist() == asked
    assert table["record"].to_pylist() == [stored(name, schema) for name in asked]
    assert table["problem"].null_count == len(asked)
    assert table["record"].type == (pa.binary() if form == "records" else pa.binary_view())


def test_a_part_has_its_records_and_the_parts_make_the_store(service: FlightService, schema: Schema) -> None:
    found = {}
    for part in range(3):
        table = get(service, {"store": "one", "part": part})
        keys = table["key"].to_pylist()
        assert keys == sorted(name for name in STORED_NAMES if ORDINALS[name] % 3 == part)
        found |= dict(zip(keys, table["record"].to_pylist(), strict=True))
    assert found == {name: stored(name, schema) for name in STORED_NAMES}


@pytest.mark.parametrize(("order", "expected"), [("key", sorted(STORED_NAMES)), ("source", STORED_NAMES)])
def test_all_records_come_in_the_order_asked(service: FlightService, order: str, expected: list[str]) -> None:
    for form in ("records", "keys"):
        assert get(service, {"store": "one", "all": True, "order": order, "form": form})["key"].to_pylist() == expected


def test_a_key_without_a_record_does_not_fail_the_others(service: FlightService, schema: Schema) -> None:
    asked = ["nobody", STORED_NAMES[0], REFUSED_NAMES[0], "a\nb", ""]
    for form in ("records", "views", "headers", "arrays", "keys"):
        table = get(service, {"store": "one", "keys": asked, "form": form})
        problems = table["problem"].to_pylist()
        assert [problem and problem["kind"] for problem in problems] == [
            "missing",
            None,
            "refused",
            "missing",
            "missing",
        ]
        assert "empty: the file has no bytes" in problems[2]["message"]
        for name in table.column_names[1:-1]:
            assert [value is None for value in table[name].to_pylist()] == [True, False, True, True, True]
    assert get(service, {"store": "one", "keys": asked})["record"][1].as_py() == stored(STORED_NAMES[0], schema)


def test_headers_say_what_the_records_say(service: FlightService, schema: Schema) -> None:
    table = get(service, {"store": "one", "keys": STORED_NAMES, "form": "headers"})
    for row in table.to_pylist():
        record, data = record_of(row["key"], schema), stored(row["key"], schema)
        assert (row["rows"], row["count"]) == (len(record.features), record.count)
        assert tuple(row["size"]) == record.size
        assert (row["ordinal"], row["checksum"]) == (ORDINALS[row["key"]], int.from_bytes(data[40:48], "little"))


def test_arrays_are_typed_columns_of_the_schema(service: FlightService, schema: Schema) -> None:
    table = get(service, {"store": "one", "all": True, "form": "arrays"})
    assert table.column_names == ["key", "ordinal", "count", "size", "checksum", *schema.names, "problem"]
    features = table.schema.field("features").type
    assert features.value_type == pa.list_(pa.field("item", pa.float16(), False), 96)
    assert pa.types.is_fixed_size_list(features) == (schema.rows is not None)
    table.validate(full=True)
    for row in table.to_pylist():
        record = record_of(row["key"], schema)
        for field in schema.fields:
            assert np.array_equal(np.array(row[field.name], field.memory_dtype), record.array(field.name))
        assert (row["count"], tuple(row["size"]), row["ordinal"]) == (record.count, record.size, ORDINALS[row["key"]])


def test_flights_are_the_stores_with_an_endpoint_for_each_part(service: FlightService, schema: Schema) -> None:
    client = client_of(service)
    (info,) = client.list_flights()
    assert (info.descriptor.path, info.total_records, len(info.endpoints)) == ([b"one"], len(STORED_NAMES), 3)
    keys = []
    for endpoint in client.get_flight_info(flight.FlightDescriptor.for_path("one", "arrays")).endpoints:
        reader = client.do_get(endpoint.ticket)
        keys += reader.read_all()["key"].to_pylist()
        assert reader.schema.metadata[b"featx.form"] == b"arrays"
    assert sorted(keys) == sorted(STORED_NAMES)
    command = flight.FlightDescriptor.for_command(json.dumps({"store": "one", "keys": ["a", "b"]}).encode())
    info = client.get_flight_info(command)
    assert (info.total_records, len(info.endpoints)) == (2, 1)
    assert client.get_schema(command).schema == info.schema == client.do_get(info.endpoints[0].ticket).schema
    assert list(client.list_flights(b"two")) == []


def test_the_manifest_and_the_parts_come_with_their_checksums(service: FlightService, tmp_path: Path) -> None:
    mounted = make_store(tmp_path / "same", "lmdb", COUNT, 3)
    with served(same=mounted) as running:
        assert act(running, "manifest", {"store": "same"}) == json.loads((mounted / "manifest.json").read_bytes())
        parts = [json.loads(path.read_bytes()) for path in sorted(mounted.glob("parts/*/part.json"))]
        assert act(running, "parts", {"store": "same"}) == {"parts": parts}


@pytest.mark.parametrize(("order", "expected"), [("key", sorted(STORED_NAMES)), ("source", STORED_NAMES)])
def test_keys_come_in_pages(service: FlightService, order: str, expected: list[str]) -> None:
    found: list[str] = []
    page: dict[str, Any] = {"keys": [], "next": None}
    while not found or page["next"] is not None:
        after = {} if page["next"] is None else {"after": page["next"]}
        page = act(service, "keys", {"store": "one", "limit": 4, "order": order, **after})
        assert 0 < len(page["keys"]) <= 4
        found += page["keys"]
    assert found == expected


def test_keys_are_searched(service: FlightService) -> None:
    assert act(service, "keys", {"store": "one", "search": "PICTURE 1."})["keys"] == [names(2)[1]]
    assert act(service, "keys", {"store": "one", "prefix": names(3)[2][:6]})["keys"] == [names(3)[2]]
    assert act(service, "keys", {"store": "one", "prefix": "zz"}) == {"keys": [], "next": None}


def test_failures_come_in_pages(service: FlightService) -> None:
    first = act(service, "failures", {"store": "one", "limit": 1})
    second = act(service, "failures", {"store": "one", "limit": 1, "after": first["next"]})
    rows = [*first["failures"], *second["failures"]]
    assert sorted(row["key"] for row in rows) == sorted(REFUSED_NAMES)
    assert second["next"] is None
    assert {row["reason"] for row in rows} == {"empty"}


def test_a_long_key_is_found_by_its_name_and_by_its_stored_key(tmp_path: Path) -> None:
    path, name = tmp_path / "long", "é" * 300
    key = ("é" * 200).encode() + b"~" + hashlib.sha256(name.encode()).hexdigest().encode()
    create_store(path, "lmdb", SCHEMA, PROVENANCE)
    with open_part(path) as writer:
        writer.put(name, record_of(name), 5)
        writer.finish()
    data = encode(record_of(name), SCHEMA, key, 5)
    with served(long=path) as running:
        assert get(running, {"store": "long", "keys": [name, key.decode()]})["record"].to_pylist() == [data, data]
        assert get(running, {"store": "long", "part": 0})["key"].to_pylist() == [name]


@pytest.mark.parametrize("form", ["records", "views", "arrays"])
@pytest.mark.parametrize("rows", [36, 70], ids=["148 KB", "288 KB"])
def test_large_records_pass_whole_among_missing_ones(tmp_path: Path, form: str, rows: int) -> None:
    keys = [f"{n}.jpg" for n in range(8)]
    schema = Schema(LARGE.fields, rows=rows)
    create_store(tmp_path / "large", "lmdb", schema, PROVENANCE)
    with open_part(tmp_path / "large") as writer:
        for ordinal, key in enumerate(keys):
            writer.put(key, record_of(key, schema), ordinal)
        writer.finish()
    with served(large=tmp_path / "large") as running:
        table = get(running, {"store": "large", "keys": ["no", *keys, "no"], "form": form})
    table.validate(full=True)
    for ordinal, key in enumerate(keys):
        if form == "arrays":
            features = table["features"][ordinal + 1].values.flatten().to_numpy().reshape(rows, -1)
            assert np.array_equal(features, record_of(key, schema).features)
        else:
            assert table["record"][ordinal + 1].as_py() == stored(key, schema, ordinal)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_coarse_features_come_as_stored_and_say_what_they_mean(tmp_path: Path, dtype: str) -> None:
    schema = Schema((Field("features", dtype, (32,)), Field("boxes", "float32", (4,))))
    record = record_of("a", schema)
    create_store(tmp_path / "s", "lmdb", schema, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.put("a", record, 0)
        writer.finish()
    with served(s=tmp_path / "s") as running:
        table = get(running, {"store": "s", "keys": ["a"], "form": "arrays"})
    metadata = table.schema.field("features").metadata
    assert metadata[b"featx.dtype"] == dtype.encode()
    codes = np.array(table["features"][0].as_py())
    if dtype == "bfloat16":
        assert np.array_equal((codes.astype(np.uint32) << 16).view(np.float32), record.features)
    else:
        scale, zero = np.array(table["features_scale"][0].as_py(), np.float32).T[:, :, None]
        assert np.abs(scale * (codes - zero) - record.features).max() <= scale.max() / 2


def test_a_damaged_record_is_told_in_arrays_and_passed_on_as_it_lies(tmp_path: Path) -> None:
    path = make_store(tmp_path / "bad", "lmdb", COUNT)
    data, name = stored(STORED_NAMES[3]), STORED_NAMES[3]
    file = next(path.glob("parts/*/records.lmdb"))
    content = bytearray(file.read_bytes())
    content[content.index(data) + 100] ^= 1
    file.write_bytes(content)
    with served(bad=path) as running:
        rows = get(running, {"store": "bad", "keys": STORED_NAMES[2:5], "form": "arrays"}).to_pylist()
        assert [row["problem"] and row["problem"]["kind"] for row in rows] == [None, "damaged", None]
        assert str(tmp_path) not in rows[1]["problem"]["message"]
        found = get(running, {"store": "bad", "keys": [name]})["record"][0].as_py()
    assert found[:100] + bytes([found[100] ^ 1]) + found[101:] == data


def test_a_call_without_the_token_is_turned_away(tmp_path: Path) -> None:
    path = make_store(tmp_path / "one", "lmdb", 3)
    with served(token="s3cret", one=path) as running:
        client = client_of(running)
        ticket = flight.Ticket(b'{"store": "one", "all": true}')
        for brought in (b"", b"Bearer s3cre", b"Bearer s3crets", b"s3cret", b"bearer s3cret", b"Basic czNjcmV0"):
            options = flight.FlightCallOptions(headers=[(b"authorization", brought)])
            for call in (
                lambda options=options: client.do_get(ticket, options).read_all(),
                lambda options=options: list(client.list_flights(options=options)),
                lambda options=options: list(client.do_action("keys", options)),
            ):
                with pytest.raises(flight.FlightUnauthenticatedError) as caught:
                    call()
                assert "s3cret" not in str(caught.value)
                assert json.loads(caught.value.extra_info)["code"] == "unauthenticated"
        options = flight.FlightCallOptions(headers=[(b"authorization", b"Bearer s3cret")])
        assert client.do_get(ticket, options).read_all().num_rows == 3


def test_another_address_than_loopback_needs_a_token(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no token"):
        serve_flight(Settings(host="0.0.0.0"), Mounts.of(one=make_store(tmp_path / "one", "lmdb", 3)))


def test_a_store_that_is_replaced_is_served_anew(tmp_path: Path) -> None:
    path = make_store(tmp_path / "one", "lmdb", 3)
    mounts = Mounts.of(one=path)
    with serve_flight(Settings(), mounts) as running:
        before = client_of(running).do_get(flight.Ticket(b'{"store": "one", "all": true}'))
        path.rename(tmp_path / "old")
        make_store(path, "hdf5", 5, schema=FIXED)
        assert mounts.stores["one"].renew()
        after = get(running, {"store": "one", "all": True})
        assert before.read_all()["record"].to_pylist() == [stored(name) for name in sorted(names(3))]
        assert after["record"].to_pylist() == [stored(name, FIXED) for name in sorted(names(5))]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 24 MB: more than waits between a server and a client that reads nothing."""
    path = tmp_path_factory.mktemp("many") / "many"
    create_store(path, "lmdb", LARGE, PROVENANCE)
    record = record_of("any", LARGE)
    with open_part(path) as writer:
        for ordinal in range(160):
            writer.put(f"{ordinal:03}", record, ordinal)
        writer.finish()
    return path


ALL = flight.Ticket(b'{"store": "many", "all": true}')


def test_streams_under_way_are_finished_when_the_server_ends(many: Path) -> None:
    service = serve_flight(Settings(), Mounts.of(many=many))
    reader = client_of(service).do_get(ALL)
    first = reader.read_chunk().data.num_rows
    with ThreadPoolExecutor(1) as pool:
        closed = pool.submit(service.close, 100)
        assert first + sum(chunk.data.num_rows for chunk in reader) == 160
        assert closed.result()


def test_a_client_that_takes_nothing_does_not_keep_the_server(many: Path) -> None:
    service = serve_flight(Settings(), Mounts.of(many=many))
    reader = client_of(service).do_get(ALL)
    reader.read_chunk()
    assert not service.close(0.05)
    with pytest.raises(flight.FlightError):
        reader.read_all()
    with serve_flight(Settings(flight_port=service.port), Mounts.of(many=many)) as again:  # it let go of its port
        assert get(again, {"store": "many", "keys": ["000"]}).num_rows == 1


def test_more_streams_than_there_is_room_for_are_told_to_come_again(many: Path) -> None:
    with Server("grpc://127.0.0.1:0", Mounts.of(many=many), Limits(100, 8192), streams=2) as server:
        client = flight.FlightClient(f"grpc://127.0.0.1:{server.port}")
        waiting = [client.do_get(ALL) for _ in range(2)]
        for reader in waiting:
            reader.read_chunk()
        with pytest.raises(flight.FlightUnavailableError, match="as many streams"):
            client.do_get(ALL).read_all()
        waiting[0].read_all()
        with open_store(f"grpc://127.0.0.1:{server.port}/many") as store:  # which comes again until there is room
            assert store["000"] == record_of("any", LARGE)
        waiting[1].cancel()
