"""The command of the package: `elite-pipeline`, or `python -m elite_pipeline`."""

import argparse
import os
import sys
from pathlib import Path

from elite_pipeline.errors import run

DEMO = ["results/demo_summary.md", "results/demo_pseudo_labels.png"]

DESCRIPTION = """Distil an image foundation model into a small real-time LiDAR segmentation network.

Run it in the folder of the checkout. A target is a file that the workflow makes, such as
results/semkitti_miou.json, or a rule (snakemake --list names all)."""


def parser() -> argparse.ArgumentParser:
    """All commands with their options. `predict` reads its own."""
    formats = argparse.RawDescriptionHelpFormatter
    found = argparse.ArgumentParser("elite-pipeline", description=DESCRIPTION, formatter_class=formats)
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    cores = {"type": int, "metavar": "N", "help": "cores to use (default: all)"}

    demo = commands.add_parser("demo", help="run the whole pipeline on simulated drives and print the results")
    demo.add_argument("--cores", **cores)
    made = commands.add_parser("run", help="make targets, with one line of progress")
    made.add_argument("targets", nargs="+", metavar="TARGET", help="such as results/semkitti_summary.md")
    made.add_argument("--cores", **cores)
    plan = commands.add_parser("plan", help="say what targets would take: jobs, hours, disk; runs nothing")
    plan.add_argument("targets", nargs="+", metavar="TARGET", help="such as results/semkitti_summary.md")
    plan.add_argument("--cores", **cores)
    commands.add_parser("predict", help="label your own scans with a trained student", add_help=False)
    commands.add_parser("doctor", help="check what is installed, and say what to do about what is missing")
    return found


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns its exit status. Raises `InputError` for faults that the user can correct."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["predict"]:
        from elite_pipeline.stages.predict_scans import main as predict

        sys.argv[0] = "elite-pipeline predict"  # the name in its usage line
        predict(words[1:])
        return 0
    args = parser().parse_args(words)
    if args.command == "doctor":
        from elite_pipeline.commands.doctor import examine

        return examine(Path())
    if args.command == "plan":
        from elite_pipeline.commands.plan import make_plan, show

        print(show(make_plan(args.targets, args.cores)))
        return 0
    from elite_pipeline.commands.running import make, summarise

    targets = DEMO if args.command == "demo" else args.targets
    if status := make(targets, args.cores):
        return status
    summarise(targets)
    return 0


def command() -> None:
    """Run `main` and exit with its status. `elite-pipeline` starts here."""
    try:
        status = run(main)
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # as in `elite-pipeline run ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)


if __name__ == "__main__":
    command()
