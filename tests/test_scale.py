"""The models of a worker and of a fleet against what can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks.endurance import Sample, verdict
from benchmarks.fleet_model import Fleet, simulate
from benchmarks.worker_model import Stages, Work, rate, seconds

FREE = Work()


@pytest.mark.parametrize(
    ("stages", "pace"),
    [
        (Stages(Work(wait=0.1), Work(wait=0.3), Work(wait=0.2), FREE, threads=1), 0.3),  # the network
        (Stages(Work(wait=0.8), Work(wait=0.3), FREE, FREE, threads=2), 0.4),  # two threads that decode
        (Stages(Work(wait=0.1), Work(wait=0.1), Work(wait=0.5), FREE), 0.5),  # the thread that writes
    ],
)
def test_stages_that_only_wait_run_side_by_side_at_the_pace_of_the_slowest(stages: Stages, pace: float) -> None:
    assert 1 / rate(stages, cores=1) == pytest.approx(pace, rel=0.01)


def test_stages_that_compute_share_the_cores() -> None:
    stages = Stages(Work(cpu=0.2), Work(cpu=0.3), Work(cpu=0.1), FREE)
    assert 1 / rate(stages, cores=1) == pytest.approx(0.6, rel=0.01)
    assert 1 / rate(stages, cores=10) == pytest.approx(0.3, rel=0.01)


def test_one_picture_takes_the_sum_of_its_stages() -> None:
    stages = Stages(Work(0.1, 0.2), Work(0.3, 0.4), Work(0.5), Work(wait=0.6))
    assert seconds(stages, [1], cores=2) == pytest.approx(2.1)


def test_a_second_worker_helps_where_a_core_is_free() -> None:
    stages = Stages(FREE, Work(cpu=1.0), FREE, FREE)
    assert seconds(stages, [100], 2) / seconds(stages, [50, 50], 2) == pytest.approx(2, rel=0.02)
    assert seconds(stages, [100], 1) / seconds(stages, [50, 50], 1) == pytest.approx(1, rel=0.02)


def test_a_slow_commit_takes_along_all_that_wait() -> None:
    stages = Stages(FREE, Work(wait=0.01), FREE, Work(wait=0.1))
    assert 1 / rate(stages, cores=1) < 0.02  # a commit for each picture would be 0.1


def test_a_fleet_without_faults_does_its_parts_in_rounds() -> None:
    outcome = simulate(Fleet(workers=4, pictures=1000, parts=10, seconds=0.36, start=36.0))
    assert outcome.hours * 3600 == pytest.approx(36 + 3 * 36)  # three rounds of 100 pictures
    assert (outcome.deaths, outcome.again, outcome.interrupted) == (0, 0, 0)
    assert outcome.tail * 3600 == pytest.approx(36)
    assert outcome.busy == pytest.approx(10 * 36 / (4 * 144))


def test_deaths_come_as_often_as_their_mean_says_and_lose_what_is_in_hand() -> None:
    fleet = Fleet(workers=10, pictures=1_000_000, parts=1000, seconds=1.0, start=10.0, mean_life=5000.0, in_hand=30)
    outcome = simulate(fleet, seed=3)
    assert outcome.deaths == pytest.approx(1_000_000 / 5000, rel=0.25)
    assert outcome.again == pytest.approx(30 * outcome.deaths, rel=0.1)
    assert outcome.interrupted <= outcome.deaths
    assert outcome.hours * 3600 == pytest.approx((1_000_000 + outcome.deaths * 40) / 10, rel=0.02)


def test_every_poison_picture_kills_twice() -> None:
    fleet = Fleet(workers=10, pictures=1_000_000, parts=1000, seconds=0.1, poison=10_000, in_hand=30)
    outcome = simulate(fleet, seed=1)
    assert outcome.deaths == outcome.poison
    assert outcome.poison % 2 == 0
    assert outcome.poison == pytest.approx(2 * 100, rel=0.3)
    assert outcome.again == 30 * outcome.poison // 2


def test_many_parts_let_fast_workers_do_more_of_them() -> None:
    few = Fleet(workers=8, pictures=800_000, parts=8, seconds=0.1, start=0.0, slow=0.3, slowness=2.0)
    assert math.isclose(simulate(few, seed=2).hours * 3600, 20_000)  # the slow one has as many as the others
    assert simulate(replace(few, parts=800), seed=2).hours < 0.7 * 20_000 / 3600


def test_a_run_that_gets_slower_and_larger_is_told_so() -> None:
    """100 pictures/s in the first half of 10,000 and 50 in the second, 100 bytes and 1 then 2 ms of CPU a picture."""
    samples = [Sample(done / 100, done, 10**6 + 100 * done, done * 1e-3) for done in range(0, 5001, 50)]
    later = range(5050, 10_001, 50)
    samples += [Sample(50 + (d - 5000) / 50, d, 10**6 + 100 * d, 5 + (d - 5000) * 2e-3) for d in later]
    facts = verdict(samples, 10_000)
    assert facts["pictures/s, second tenth"] == pytest.approx(100)
    assert facts["pictures/s, last tenth"] == pytest.approx(50)
    assert facts["last over second"] == pytest.approx(0.5)
    assert facts["growth, bytes a picture"] == pytest.approx(100, rel=0.02)
    assert facts["CPU ms a picture, second tenth"] == pytest.approx(1)
    assert facts["CPU ms a picture, last tenth"] == pytest.approx(2)
