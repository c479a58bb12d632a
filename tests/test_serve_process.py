"""``featx serve`` as people run it: what it says, how it ends, several processes, and mistakes without a traceback."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from featx.cli import main
from tests.serving import KEYS, Server, bytes_of, make_stores, path_of
from tests.store_oracle import KINDS, make_store

PATIENCE = 120  # seconds; a busy machine is slow, not wrong


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_stores(tmp_path_factory.mktemp("stores"))


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "featx", "serve", *map(str, args)]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Ours, with a folder of its own for temporary files."""
    return {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", **more}


@contextmanager
def started(folder: Path, *args: object, **more: str) -> Iterator[tuple[subprocess.Popen[str], Server, dict[str, Any]]]:
    """A server that runs, and what it said when it began; killed in the end if it is still there."""
    process = subprocess.Popen(
        command(*args, "--port", 0, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(folder, **more),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        told = json.loads(line)
        yield process, Server(int(told["url"].rpartition(":")[2]), None), told  # type: ignore[arg-type]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code after SIGTERM, and what was said on stderr."""
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


RUNS = [[], ["--workers", "2"], ["--server", "granian"], ["--server", "granian", "--workers", "2"]]


@pytest.mark.parametrize("options", RUNS, ids=" ".join)
def test_it_serves_every_record_and_ends_when_told(tmp_path: Path, stores: dict[str, Path], options: list[str]) -> None:
    with started(tmp_path, *stores.values(), *options) as (process, server, told):
        assert told["stores"] == dict.fromkeys(KINDS, len(KEYS))
        assert told["pid"] == process.pid
        for kind, (_, schema) in KINDS.items():
            answer = server.ask("GET", path_of(kind, KEYS[0]))
            assert (answer.status, answer.body) == (200, bytes_of(KEYS[0], schema))
            batch = server.ask("POST", f"/v1/stores/{kind}/records", {"keys": KEYS})
            assert batch.body.count(b"FXRC") == len(KEYS)
            assert server.ask("GET", path_of(kind, "nobody")).status == 404
        assert server.ask("GET", "/readyz").json["ready"] is True
        counted = server.ask("GET", "/metrics").body.decode()
        assert 'featx_requests_total{method="POST",route="/v1/stores/{store}/records",status="200"} 3.0' in counted
        code, errors = ended(process)
    assert (code, errors) == (0, "")
    assert not list(tmp_path.iterdir())  # the folder of the counters is gone


def test_what_is_under_way_is_finished_and_nothing_new_is_taken(tmp_path: Path, stores: dict[str, Path]) -> None:
    with started(tmp_path, stores["lmdb"], "--drain", 60) as (process, server, _):
        body = json.dumps({"keys": KEYS[:3]}).encode()
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
            connection.putrequest("POST", "/v1/stores/lmdb/records")
            connection.putheader("content-type", "application/json")
            connection.putheader("content-length", str(len(body)))
            connection.endheaders(body[:5])
            assert server.ask("GET", "/healthz").status == 200  # so the request before has been seen, too
            process.send_signal(signal.SIGTERM)
            refused = False
            while not refused:
                try:
                    server.ask("GET", "/healthz")
                except OSError:
                    refused = True
            connection.send(body[5:])
            response = connection.getresponse()
            assert response.status == 200
            assert response.read().count(b"FXRC") == 3
        assert process.wait(PATIENCE) == 0


def test_what_does_not_end_in_time_is_cut_off(tmp_path: Path, stores: dict[str, Path]) -> None:
    with started(tmp_path, stores["lmdb"], "--drain", 0.2) as (process, server, _):
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
            connection.putrequest("POST", "/v1/stores/lmdb/records")
            connection.putheader("content-length", "100")
            connection.endheaders(b"{")
            assert server.ask("GET", "/healthz").status == 200
            code, _ = ended(process)
        assert code == 0


def test_ctrl_c_ends_it_too(tmp_path: Path, stores: dict[str, Path]) -> None:
    with started(tmp_path, stores["lmdb"], "--workers", 2) as (process, server, _):
        assert server.ask("GET", "/healthz").status == 200
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")


def children(pid: int) -> list[int]:
    """The processes that a process started and that serve (they have the word spawn_main among their arguments)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            serves = b"spawn_main" in (folder / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if parent == pid and serves:
            found.append(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_worker_that_dies_is_replaced_and_all_end_with_the_parent(tmp_path: Path, stores: dict[str, Path]) -> None:
    with started(tmp_path, stores["lmdb"], "--workers", 2) as (process, server, _):
        expected = bytes_of(KEYS[1], KINDS["lmdb"].schema)
        assert server.ask("GET", path_of("lmdb", KEYS[1])).body == expected
        first = children(process.pid)
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        while len(now := children(process.pid)) < 2 or first[0] in now:
            pass
        for _ in range(20):
            assert server.ask("GET", path_of("lmdb", KEYS[1])).body == expected
        process.kill()  # and not even then do they stay
        process.communicate()
        while any(Path(f"/proc/{pid}").exists() for pid in now):
            pass


def test_several_clients_at_once_get_their_own_bytes(tmp_path: Path, stores: dict[str, Path]) -> None:
    wrong: list[str] = []
    with started(tmp_path, *stores.values(), "--workers", 2) as (_, server, _):

        def client(seed: int) -> None:
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
                for number in range(40):
                    key, kind = KEYS[(seed * 7 + number) % len(KEYS)], list(KINDS)[(seed + number) % 3]
                    if server.ask_on(connection, "GET", path_of(kind, key)).body != bytes_of(key, KINDS[kind].schema):
                        wrong.append(key)

        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_people_are_told_where_it_is_and_what_it_serves(tmp_path: Path, stores: dict[str, Path]) -> None:
    process = subprocess.Popen(
        command(f"mine={stores['lmdb']}", stores["hdf5"], "--port", 0), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(tmp_path),
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    code, errors = ended(process)
    assert line.startswith("http://127.0.0.1:")
    assert line.endswith(f"serves mine ({len(KEYS)} records), hdf5 ({len(KEYS)} records)\n")
    assert (code, errors) == (0, "Ctrl-C ends it\n")


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, stores: dict[str, Path]) -> None:
    file, token = tmp_path / "token", "sixteen-letters-or-more"
    file.write_text(token + "\n")
    for args, more in ((["--token-file", file], {}), ([], {"FEATX_TOKEN": token})):
        with started(tmp_path, stores["lmdb"], *args, **more) as (_, server, told):
            assert server.ask("GET", path_of("lmdb", KEYS[0])).status == 401
            headers = {"authorization": f"Bearer {token}"}
            assert server.ask("GET", path_of("lmdb", KEYS[0]), headers=headers).status == 200
            assert token not in json.dumps(told)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the command here, which does not get as far as serving: its exit code, and what it said on stderr."""

    def run(*args: object) -> tuple[int, str]:
        code = main(["serve", *map(str, args)])
        return code, capsys.readouterr().err

    return run


def test_mistakes_are_sentences_with_an_exit_code(
    tmp_path: Path, stores: dict[str, Path], refused: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, short = stores["lmdb"], tmp_path / "short"
    short.write_text("abc")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        cases: list[tuple[list[object], int, str]] = [
            ([store, "--port", port], 2, "is taken by another program"),
            ([tmp_path / "none"], 4, "there is no store"),
            ([tmp_path], 4, "is not a featx store"),
            ([store, "--host", "0.0.0.0"], 2, "there is no token"),
            ([store, "--host", "no.such.host.invalid"], 2, "there is no token"),
            ([store, "--token-file", tmp_path / "nothing"], 2, "cannot read the token"),
            ([store, "--token-file", short], 2, "is no token"),
            ([store, store], 2, "two stores are called"),
            ([f"a={store}", "--pictures", f"b={tmp_path}"], 2, "there is none of that name"),
            ([store, "--cors", "*"], 2, "is no origin"),
            ([store, "--max-body", "lots"], 2, "--max-body"),
            ([store, "--workers", 0], 2, "--workers is 0"),
            ([store, "--timeout", "nan"], 2, "--timeout"),
            ([store, "--port", 70000], 2, "70000 is no port"),
            ([store, "--flight-port", 70001], 2, "70001 is no port"),
            ([store, "--model", "default", "--device", "tpu"], 2, "the device 'tpu' cannot be used"),
        ]
        for args, code, words in cases:
            found, errors = refused(*args)
            assert (found, words in errors) == (code, True), (args, errors)
            assert "unexpected" not in errors
            assert errors.count(words) == 1, errors
            assert "ask again" not in errors, "that is for clients of a server that runs"
    monkeypatch.setenv("FEATX_TOKEN", "sixteen-letters-or-more")
    code, errors = refused(store, "--host", "192.0.2.1")
    assert (code, "is no address of this machine" in errors) == (2, True)


def test_a_damaged_store_is_told_before_it_listens(tmp_path: Path, refused: Callable[..., tuple[int, str]]) -> None:
    path = make_store(tmp_path / "s", "lmdb", 4)
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"lmdb"', '"hdf5"'))
    code, errors = refused(path, "--port", 0)
    assert (code, "damaged" in errors) == (4, True)


def test_it_starts_without_torch(tmp_path: Path, stores: dict[str, Path]) -> None:
    code = (
        "import sys; from featx.cli.serve import plan_of; from featx.cli import build_parser;"
        "from featx.serve.plan import application;"
        "o = build_parser('serve').parse_args(['serve', *sys.argv[1:]]); application(plan_of(o));"
        "print([m for m in ('torch', 'cv2', 'transformers', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(stores["lmdb"])], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
