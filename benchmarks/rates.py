"""Rates for `elite-pipeline plan`: measured on the demo and on a smaller one, written to commands/rates.json.

    python benchmarks/rates.py [--dry-run]

Makes the demo in this folder where it is not made yet. Two sizes tell the seconds that a job takes to start from those
that each frame takes; of the jobs of one size the fastest counts. Run it on a machine that does nothing else. A dry run
only lists the jobs of the smaller demo.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from shutil import which

import yaml

from elite_pipeline import config
from elite_pipeline.__main__ import DEMO
from elite_pipeline.commands.dry_run import dry_run
from elite_pipeline.commands.rates import PACKAGED, fit, measured_jobs
from elite_pipeline.commands.workload import Workloads
from elite_pipeline.config.reading import COMPARISONS
from elite_pipeline.provenance import device_name

ROOT = Path(__file__).parents[1]


def make_smaller(folder):
    """A working directory of this checkout whose demo has fewer frames and steps."""
    for name in ("elite_pipeline", "workflow", "config", "envs", "Snakefile"):
        (folder / name).symlink_to(ROOT / name)
    values = yaml.safe_load((ROOT / "config.yaml").read_text())
    values["datasets"]["demo"]["simulate_drive"]["frames"] = 4
    values["teachers"]["sam_tiny"]["tune_teacher"].update(steps=20, warmup=5)
    values["students"]["elite_demo"]["train_student"].update(epochs=6)
    values["evaluate_pseudo_labels"]["frames"] = 3
    values["measure_latency"].update(warmup=2, scans=20)
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def demo_jobs(folder):
    """The measured jobs of the demo in `folder`, made there where it is not."""
    os.chdir(folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "elite_pipeline", "run", *DEMO], env=environment, check=True)
    dag = dry_run(DEMO)
    keys = {job.key for job in dag.jobs}
    workloads = Workloads(config.read(Path("config.yaml"), COMPARISONS))
    return measured_jobs([job for job in dag.measured if job.key in keys], workloads)


def fastest(jobs):
    """Of `jobs` with one rule and amount of work, the one that took least."""
    found = {}
    for job in sorted(jobs, key=lambda job: job.seconds):
        found.setdefault((job.rule, job.work.amount), job)
    return list(found.values())


def write(jobs):
    """Fit the rates of `jobs`, print them and write them to `PACKAGED`."""
    gpu = which("nvidia-smi") is not None
    machine = f"{device_name()}, {len(os.sched_getaffinity(0))} CPU cores" if gpu else device_name()
    rates = [
        replace(rate, start=round(rate.start, 2), seconds=round(rate.seconds, 4), size=round(rate.size))
        for rate in fit(fastest(jobs), {})
    ]
    about = {"machine": machine, "date": date.today().isoformat(), "gpu": gpu}
    lines = ",\n  ".join(json.dumps(asdict(rate)) for rate in sorted(rates, key=lambda rate: rate.rule))
    PACKAGED.write_text(json.dumps(about)[:-1] + f', "rates": [\n  {lines}\n]}}\n')
    for rate in rates:
        print(f"{rate.rule:<24}{rate.start:>7.1f} s and {rate.seconds:.3f} s, {rate.size / 1e3:.0f} kB per {rate.unit}")


def list_jobs(folder):
    """Print the jobs of the demo in `folder` and their work, and run none."""
    os.chdir(folder)
    workloads = Workloads(config.read(Path("config.yaml"), COMPARISONS))
    for job in dry_run(DEMO).jobs:
        work = workloads.of(job.rule, dict(job.wildcards))
        print(f"{job.rule:<24}{work.amount:>7g} {work.unit}")


def main():
    """Make both demos and write the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="list the jobs of the smaller demo")
    dry, here = parser.parse_args().dry_run, Path.cwd()
    if dry:
        with tempfile.TemporaryDirectory() as folder:
            make_smaller(Path(folder))
            list_jobs(folder)
            os.chdir(here)
        return
    jobs = demo_jobs(here)
    with tempfile.TemporaryDirectory() as folder:
        make_smaller(Path(folder))
        jobs += demo_jobs(folder)
        os.chdir(here)
    write(jobs)


if __name__ == "__main__":
    main()
