"""How long jobs take together."""

import pytest

from elite_pipeline.commands.dry_run import DryJob
from elite_pipeline.commands.timeline import makespan


def job(*after, threads=1, gpus=0):
    return DryJob("a", {}, "new", threads, gpus, list(after), ["x"])


@pytest.mark.parametrize(
    ("jobs", "cores", "gpus", "seconds"),
    [
        ([job(), job(), job()], 2, 0, 20),
        ([job(), job(0), job(1)], 8, 0, 30),
        ([job(threads=4), job(threads=4)], 2, 0, 20),
        ([job(gpus=1), job(gpus=1)], 8, 1, 20),
        ([job(gpus=1), job(gpus=1)], 8, 2, 10),
        ([job(gpus=1)], 2, 0, 10),
        ([], 2, 0, 0),
    ],
)
def test_jobs_wait_for_each_other_for_cores_and_for_gpus(jobs, cores, gpus, seconds):
    assert makespan(jobs, dict.fromkeys(range(len(jobs)), 10.0), cores, gpus) == seconds


def test_finished_jobs_are_waited_for_no_more():
    assert makespan([job(), job(0)], {1: 5.0}, 1, 0) == 5
