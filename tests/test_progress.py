"""The progress bar, its plain and JSON forms, and the shares of time. The clock is set by hand."""

from __future__ import annotations

import io
import json
import re
import threading
import time

import pytest

from featx.progress import Progress, Summary


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_summary_counts_pictures_refusals_rate_and_shares(clock: Clock) -> None:
    progress = Progress(100, done_before=40, stream=io.StringIO(), clock=clock)
    with progress.time("decode"):
        clock.wait(1)
    with progress.time("network"):
        clock.wait(7)
    progress.add("write", 2)
    progress.advance(18, refused=3)
    clock.wait(1)
    summary = progress.close()
    assert summary == Summary(15, 3, 9.0, 2.0, {"decode": 0.1, "network": 0.7, "write": 0.2})
    assert progress.close() is summary
    assert json.loads(json.dumps(summary.to_dict()))["shares"]["network"] == 0.7
    assert str(summary) == "15 pictures in 0:00:09 (2/s), 3 refused; decode 10% network 70% write 20%"


def test_the_limit_is_the_stage_whose_threads_were_busiest(clock: Clock) -> None:
    out = io.StringIO()
    progress = Progress(10, stream=out, json=True, clock=clock)
    progress.lanes(decode=4, network=1, write=1)
    progress.add("decode", 12)  # 3 s in each thread
    progress.add("network", 4)
    progress.add("write", 1)
    progress.advance(10)
    clock.wait(5)
    assert str(progress.close()).endswith("; decode 71% network 24% write 6%; limit: network")
    assert json.loads(out.getvalue().splitlines()[-1])["limit"] == "network"


def test_stages_that_do_not_work_side_by_side_have_no_limit(clock: Clock) -> None:
    progress = Progress(10, stream=io.StringIO(), clock=clock)
    progress.add("decode", 3)
    assert progress.close().limit is None
    idle = Progress(10, stream=io.StringIO(), clock=clock)
    idle.lanes(decode=4, network=1)
    assert idle.close().limit is None


def test_a_run_that_did_nothing_has_a_summary_without_division_by_zero(clock: Clock) -> None:
    summary = Progress(0, stream=io.StringIO(), clock=clock).close()
    assert summary == Summary(0, 0, 0.0, 0.0, {})
    assert str(summary) == "0 pictures in 0:00:00 (0/s), 0 refused"


def test_a_stage_is_measured_even_if_its_body_raises(clock: Clock) -> None:
    progress = Progress(1, stream=io.StringIO(), clock=clock)

    @progress.time("decode")
    def fail() -> None:
        clock.wait(2)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    progress.add("network", 2)
    assert progress.close().shares == {"decode": 0.5, "network": 0.5}


def test_busy_time_of_threads_adds_up_and_nothing_is_lost_between_them() -> None:
    progress = Progress(8000, stream=io.StringIO())

    def work() -> None:
        for _ in range(1000):
            progress.add("decode", 0.25)
            progress.add("network", 0.75)
            progress.advance(1, refused=0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    summary = progress.close()
    assert summary.pictures == 8000
    assert summary.shares == pytest.approx({"decode": 0.25, "network": 0.75})


def test_two_threads_in_one_stage_count_twice() -> None:
    progress = Progress(2, stream=io.StringIO())

    def work(stage: str) -> None:
        with progress.time(stage):
            time.sleep(0.2)

    threads = [threading.Thread(target=work, args=(stage,)) for stage in ("decode", "decode", "network")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.close().shares["decode"] == pytest.approx(2 / 3, abs=0.1)


def test_on_a_terminal_the_bar_shows_rate_time_left_refusals_and_shares(clock: Clock) -> None:
    terminal = Terminal()
    progress = Progress(300, done_before=100, stream=terminal, clock=clock)
    progress.add("decode", 3)
    progress.add("network", 95)
    progress.add("write", 2)
    clock.wait(1)
    progress.advance(120, refused=4)
    shown = terminal.getvalue()
    assert "220/300" in shown
    assert re.search(r"[\d.]+ pictures/s", shown)
    assert re.search(r"\[\d+:\d\d<\d+:\d\d", shown)
    assert "4 refused, decode 3% network 95% write 2%" in shown
    progress.close()
    assert terminal.getvalue().endswith("\n")


def test_nothing_is_ever_coloured(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for no_color in ("", "1"):
        monkeypatch.setenv("NO_COLOR", no_color)
        for stream in (Terminal(), io.StringIO()):
            with Progress(2, stream=stream, clock=clock) as progress:
                clock.wait(60)
                progress.advance(2)
            assert stream.getvalue()
            assert "\x1b[" not in stream.getvalue()


def test_away_from_a_terminal_a_plain_line_comes_now_and_then_and_at_the_end(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(1000, done_before=100, stream=stream, clock=clock)
    progress.add("network", 1)
    for _ in range(70):
        clock.wait(1)
        progress.advance(5)
    progress.advance(50, refused=2)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3  # after 30 and 60 seconds, and at the end
    assert lines[0] == "250/1,000 pictures, 5/s, ETA 0:02:30; network 100%"
    assert lines[2].startswith("500/1,000 pictures, 5.71/s, ETA 0:01:28, 2 refused")
    assert "\r" not in stream.getvalue()


def test_json_lines_come_at_most_once_a_second_and_once_at_the_end(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(100, done_before=10, stream=stream, json=True, clock=clock)
    for _ in range(40):
        clock.wait(0.1)
        progress.add("decode", 0.05)
        progress.add("network", 0.15)
        progress.advance(2, refused=1)
    progress.close()
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [row["event"] for row in rows[:-1]] == ["progress"] * (len(rows) - 1)
    assert 3 <= len(rows) - 1 <= 4
    last = rows[-1]
    assert (last["event"], last["done"], last["total"]) == ("summary", 90, 100)
    assert (last["pictures"], last["refused"]) == (40, 40)
    assert last["rate"] == pytest.approx(20)
    assert last["seconds_left"] == pytest.approx(0.5)
    assert last["shares"] == pytest.approx({"decode": 0.25, "network": 0.75})
    assert rows[0]["seconds_left"] == pytest.approx(70 / 20, rel=0.1)


def test_the_time_left_is_unknown_until_something_is_finished(clock: Clock) -> None:
    stream = io.StringIO()
    Progress(100, stream=stream, json=True, clock=clock).close()
    assert json.loads(stream.getvalue())["seconds_left"] is None


def test_json_goes_to_stdout_and_everything_else_to_stderr(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(1, clock=clock)
    progress.advance()
    progress.close()
    out, err = capsys.readouterr()
    assert (out, bool(err)) == ("", True)
    Progress(1, done_before=1, clock=clock).close()
    assert capsys.readouterr() == ("", ""), "a run with nothing to do has no rate to tell"
    Progress(1, json=True, clock=clock).close()
    out, err = capsys.readouterr()
    assert (bool(out), err) == (True, "")


def test_quiet_shows_nothing_but_json_that_was_asked_for(clock: Clock) -> None:
    for stream in (Terminal(), io.StringIO()):
        with Progress(5, stream=stream, quiet=True, clock=clock) as progress:
            clock.wait(100)
            progress.advance(5)
        assert stream.getvalue() == ""
        assert progress.summary().pictures == 5
    stream = io.StringIO()
    Progress(5, stream=stream, quiet=True, json=True, clock=clock).close()
    assert len(stream.getvalue().splitlines()) == 1


def test_the_bar_starts_no_thread_that_a_fork_would_lose(clock: Clock) -> None:
    before = threading.active_count()
    with Progress(5, stream=Terminal(), clock=clock):
        assert threading.active_count() == before


def test_bytes_are_told_in_larger_units(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(4_000_000, stream=stream, unit="B", clock=clock)
    clock.wait(2)
    progress.advance(1_000_000)
    progress.close()
    assert stream.getvalue() == "1.00MB of 4.00MB, 500kB/s, ETA 0:00:06\n"
