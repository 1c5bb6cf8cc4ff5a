"""Run Snakemake and report its events as JSON lines, besides its log for people.

    python -m elite_pipeline.commands.events FD [options and targets of snakemake]

FD is the number of the file descriptor for the lines, one per event. `progress_line` reads them. Snakemake
knows this module as a logger plugin, `--logger events`.
"""

import contextlib
import json
import os
import signal
import sys
from logging import LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

PLUGIN = "events"
VARIABLE = "ELITE_PIPELINE_EVENTS"
"""Environment variable with the file descriptor."""

FIELDS: dict[LogEvent, tuple[str, ...]] = {
    LogEvent.RUN_INFO: ("stats",),
    LogEvent.JOB_INFO: ("jobid", "rule_name", "wildcards"),  # when the job starts
    LogEvent.JOB_FINISHED: ("job_id",),
    LogEvent.JOB_ERROR: ("jobid", "rule_name", "log"),
    LogEvent.ERROR: (),
}
"""Event -> the fields that are reported."""


class LogHandler(LogHandlerBase):
    """Writes each event of `FIELDS` as a line {"event", "message", field: value}."""

    def __post_init__(self) -> None:
        self._out = os.fdopen(int(os.environ[VARIABLE]), "w", buffering=1)

    def emit(self, record: LogRecord) -> None:
        """Write one event. If the reader is gone, the jobs continue."""
        event = getattr(record, "event", None)
        if event is None or event not in FIELDS:
            return
        found = {name: getattr(record, name, None) for name in FIELDS[event]}
        line = json.dumps({"event": str(event), "message": str(record.msg or ""), **found}, default=str)
        with contextlib.suppress(BrokenPipeError):
            self._out.write(line + "\n")

    @property
    def writes_to_stream(self) -> bool:
        """False, so that Snakemake's own log stays as it is."""
        return False

    @property
    def writes_to_file(self) -> bool:
        """False: Snakemake needs no file for it."""
        return False

    @property
    def has_filter(self) -> bool:
        """True: events are reported even if the profile hides them."""
        return True

    @property
    def has_formatter(self) -> bool:
        """True: it writes JSON."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """False: it uses no rule graph."""
        return False


def main(argv: list[str]) -> None:
    """Run Snakemake with this module as a logger. Ends the process with its exit status."""
    # A shell starts what it runs in the background (`make demo &`) with SIGINT ignored. This process and its jobs could
    # then not be stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from snakemake.cli import main as snakemake

    os.environ[VARIABLE] = argv[0]
    LoggerPluginRegistry().register_plugin(f"snakemake_logger_plugin_{PLUGIN}", sys.modules[__name__])
    snakemake(["--logger", PLUGIN, *argv[1:]])


if __name__ == "__main__":
    main(sys.argv[1:])
