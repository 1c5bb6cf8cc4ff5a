"""One module per rule of the DAG, with its name. A stage parses, reads, calls and writes; the maths lives elsewhere."""

import argparse

from elite_pipeline.config.validation import Model, unflatten, validate


def parser(description):
    """An argument parser that also takes the stage's settings as `dotted.key=json` words."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("settings", nargs="*", metavar="key=json", help="settings, as in config.yaml")
    return result


def parse(stage, settings_model: type[Model], argv=None) -> tuple[argparse.Namespace, Model]:
    """(arguments, settings): `argv` parsed by `stage` (a `parser`), its settings validated as `settings_model`."""
    arguments = stage.parse_intermixed_args(argv)
    return arguments, validate(settings_model, unflatten(arguments.settings), stage.prog)
