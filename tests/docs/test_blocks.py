"""Code in README.md and docs/ works: Python runs, YAML is a configuration, and every command is one that exists.

Commands in the text, between backticks, are checked too. What docs/extending.md tells to write is applied and run by
tests/workflow/test_extending.py.
"""

import argparse
import importlib
import re
import shlex
import subprocess
import tomllib
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from elite_pipeline.choices import ENCODERS
from elite_pipeline.config import Config
from elite_pipeline.config.reading import COMPARISONS, completed, load
from elite_pipeline.config.validation import validate

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTENDING = ROOT / "docs/extending.md"
BLOCK = re.compile(r"(?:^(?P<before>[^\n]*)\n\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
APPLIED = re.compile(r"(In `[^`]+`, (after|before) `[^`]+`|`[^`]+`):")
BLOCKS = [
    pytest.param(page, block, id=f"{page.name}:{page.read_text()[: block.start('code')].count(chr(10))}")
    for page in PAGES
    for block in BLOCK.finditer(page.read_text())
]


class Parsed(Exception):
    """Arguments are parsed, and nothing is run."""


@pytest.fixture
def parse(monkeypatch):
    """A function (main, words) -> what the command `main` parses of `words`, without running it."""

    def stop_after(method):
        def parsed(self, *args, **options):
            raise Parsed(method(self, *args, **options))

        return parsed

    def run(main, words):
        with monkeypatch.context() as patched:
            for name in ("parse_args", "parse_intermixed_args"):
                patched.setattr(argparse.ArgumentParser, name, stop_after(getattr(argparse.ArgumentParser, name)))
            with pytest.raises(Parsed) as stopped:
                main(words)
            return stopped.value.args[0]

    return run


@cache
def outputs(page):
    """Regular expressions of what the rules make, and the rules' names. A page may add rules and configuration."""
    config = completed(load(ROOT / "config.yaml"), load(ROOT / COMPARISONS))
    names = {section: list(entries) for section, entries in config.items() if isinstance(entries, dict)}
    rules = "".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")])
    if page == EXTENDING:
        names["experiments"].append("warehouse")
        rules += page.read_text()
    kinds = {"experiment": "experiments", "dataset": "datasets", "comparison": "comparisons", "images": "image_sets"}
    kinds |= {"pretraining": "pretrainings", "oracle": "oracles", "teacher": "teachers"}
    wildcards = {kind: "|".join(sorted(names[section], key=len, reverse=True)) for kind, section in kinds.items()}
    wildcards |= {
        "experiment": f"(?:{wildcards['experiment']})(?:-seed[0-9]+)?",
        "test": "(?:_test)?",
        "tta": "(?:_tta)?",
        "labels": f"carried|{wildcards['teacher']}",
        "sequence": r"[\w.-]+",
    }
    found = re.findall(r"^rule (\w+):$", rules, re.MULTILINE)
    for section in re.findall(r"^    output:\n((?:        .*\n)+)", rules, re.MULTILINE):
        for place in re.findall(r'"((?:results|models|cache|data|export)/[^"]+)"', section):
            parts = re.split(r"\{(\w+)\}", place)
            found.append("".join(f"(?:{wildcards[p]})" if k % 2 else re.escape(p) for k, p in enumerate(parts)))
    return re.compile("|".join(f"(?:{one})" for one in found))


def check_targets(page, targets):
    wrong = [target for target in targets if not outputs(page).fullmatch(target.rstrip("/"))]
    assert not wrong, "no rule makes it, or the configuration lacks a name in it"


def check_make(page, words, parse):
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, assigns, _ = word.partition("=")
        pattern = rf"^{name} [?:]=" if assigns else rf"^([\w-]+ )*{name}( [\w-]+)*:"
        assert re.search(pattern, makefile, re.MULTILINE), word


@cache
def snakemake_parser():
    from snakemake.cli import get_argument_parser

    return get_argument_parser()


def check_snakemake(page, words, parse):
    arguments = snakemake_parser().parse_args(words)
    check_targets(page, arguments.targets)
    if arguments.workflow_profile:
        assert list((ROOT / arguments.workflow_profile).glob("profile*.yaml"))


def check_python(page, words, parse):
    if words[0] == "-m":
        check_module(page, words[1:], parse)
    else:
        assert words[0].startswith("benchmarks/")
        assert (ROOT / words[0]).exists()
        files = [word for word in words[1:] if word.startswith("results/")]
        check_targets(page, [file.replace(".json", ".png") for file in files])


def check_judge(page, words, parse):
    """A script in the devkit's environment: it exists, and it knows the options."""
    script = (ROOT / words[0]).read_text()
    options = [word for word in words[1:] if word.startswith("--")]
    assert all(f'add_argument("{option}"' in script for option in options)


def check_module(page, words, parse):
    module = importlib.import_module(words[0])
    if ".stages." in words[0] and words[1:] != ["..."]:
        parse(module.main, words[1:])


def check_pytest(page, words, parse):
    arguments = dict(zip(words, [*words[1:], ""], strict=True))
    if "-m" in arguments:
        markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
        assert arguments["-m"] in [marker.partition(":")[0] for marker in markers]
    else:
        assert re.search(rf"def test_\w*{arguments['-k']}", (ROOT / words[0]).read_text())


def check_elite_pipeline(page, words, parse):
    command = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["elite-pipeline"]
    found = parse(importlib.import_module(command.partition(":")[0]).main, words)
    check_targets(page, getattr(found, "targets", ()))


def check_torchrun(page, words, parse):
    check_module(page, words[words.index("--") + 1 :], parse)


def check_curl(page, words, parse):
    assert words[:2] == ["-L", "-o"]
    checkpoint, url = words[2:]
    assert url in [encoder.url for encoder in ENCODERS.values()]
    assert checkpoint in (ROOT / "config.yaml").read_text()


def check_ln(page, words, parse):
    options, _, place = words
    assert options == "-sfn", "replaces a link, and does not write into what it leads to"
    config = load(ROOT / "config.yaml")
    assert Path(place).parts[0] == "data"
    assert Path(place).name in {**config["datasets"], **config["image_sets"]}


def check_mkdir(page, words, parse):
    assert words == ["-p", "data", "checkpoints"]


CHECKS = {
    "make": check_make,
    "snakemake": check_snakemake,
    "python": check_python,
    ".venv-judge/bin/python": check_judge,
    "pytest": check_pytest,
    "elite-pipeline": check_elite_pipeline,
    "torchrun": check_torchrun,
    "curl": check_curl,
    "ln": check_ln,
    "mkdir": check_mkdir,
}


def expanded(word):
    """A word with {a,b} as the shell has it."""
    parts = re.split(r"\{([^}]*,[^}]*)\}", word)
    return map("".join, product(*(part.split(",") if k % 2 else [part] for k, part in enumerate(parts))))


def words_of(line):
    """A command without variables before it: (name, arguments), the shell's braces expanded."""
    words = [each for word in shlex.split(line, comments=True) for each in expanded(word)]
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return (words[0].removeprefix(".venv/bin/"), words[1:]) if words else ("", [])


def check_shell(page, code, parse):
    assert subprocess.run(["bash", "-n"], input=code, text=True, check=False).returncode == 0
    for line in code.replace("\\\n", " ").splitlines():
        name, words = words_of(line)
        if name:
            assert name in CHECKS, f"{line}: a command that no check of this test knows"
            CHECKS[name](page, words, parse)


def check_yaml(page, code, tmp_path):
    file = tmp_path / "block.yaml"
    file.write_text(code)
    config = completed(load(ROOT / "config.yaml"), load(ROOT / COMPARISONS))
    for section, entries in load(file).items():
        assert set(entries).isdisjoint(config[section]), "an example has names of its own"
        config[section] = config[section] | entries
    validate(Config, config, page.name)


def run_python(code, folder, untrained_model, write_drive, monkeypatch):
    """Run a block where a demo has been: with a model, and one of its scans."""
    write_drive(folder / "data/demo/sequences/08")
    (folder / "models").mkdir()
    untrained_model.rename(folder / "models/demo")
    monkeypatch.chdir(folder)
    variables = {}
    exec(code, variables)
    assert variables["training_ids"].shape == (500,)


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_block(page, block, parse, tmp_path, request):
    language, code = block["language"], block["code"]
    if page == EXTENDING and (APPLIED.fullmatch(block["before"] or "") or language == "yaml"):
        return  # tests/workflow/test_extending.py
    if language == "sh":
        check_shell(page, code, parse)
    elif language == "yaml":
        check_yaml(page, code, tmp_path)
    elif language == "python":
        run_python(code, tmp_path, *map(request.getfixturevalue, ("untrained_model", "write_drive", "monkeypatch")))
    else:
        assert language == "text", "a language that no check of this test knows"
        assert not [line for line in code.splitlines() if words_of(line.replace("'", ""))[0] in CHECKS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_is_a_block(page):
    text = page.read_text()
    assert len(re.findall(r"^ *(```|~~~)", text, re.MULTILINE)) == 2 * len(list(BLOCK.finditer(text)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_files_in_the_text(page, parse):
    """Between backticks: commands that exist, and files of the checkout that exist."""
    wrong = []
    for code in re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text())):
        name, words = words_of(code) if not re.search(r"[<'\"{]", code) else ("", [])
        if name in CHECKS and words:
            CHECKS[name](page, words, parse)
        own = re.match(
            r"(elite_pipeline|benchmarks|workflow|config|envs|tests)/[\w./*+-]+$|[\w.]+\.(yaml|lock|toml)$", code
        )
        if own and page != EXTENDING and not list(ROOT.glob(code)):
            wrong.append(code)
    assert not wrong
