"""Check the installation, and say how to correct it. It also runs where packages are missing."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from elite_pipeline.checkpoints import PACKAGED, where_from
from elite_pipeline.choices import ENCODERS
from elite_pipeline.system import DEBIAN_PACKAGES, missing_libraries

OK, MISSING, NOTE = "ok", "missing", "note"
AGAIN = "Set up again: rm -r .venv && make demo"
SET_UP = (
    AGAIN if sys.prefix != sys.base_prefix else "Run `make demo`, which sets up .venv; then .venv/bin/elite-pipeline"
)
"""Outside a virtual environment, the user may have started the wrong Python."""
SPCONV = ("spconv-cu126", "spconv-cu120")
"""The groups of pyproject.toml; one of them is installed."""

LEAST_DISK, LEAST_MEMORY, LEAST_SHARED = 10, 6, 1
"""GB: below these the demo, or a GPU's readers, may fail."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    mark: str
    """`OK`, `MISSING` (the pipeline does not run) or `NOTE`."""
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.mark:<8}{self.subject:<20}{self.text}" + (f". {self.remedy}" if self.remedy else "")


def examine(folder: Path) -> int:
    """Print a line for each finding about this machine and the checkout `folder`.

    Returns the exit status: 1 where something that the pipeline needs is missing.
    """
    found = []
    for finding in findings(folder):
        print(finding, flush=True)
        found.append(finding)
    missing = [finding.subject for finding in found if finding.mark == MISSING]
    print(f"\nMissing: {', '.join(missing)}." if missing else "\nNothing that the pipeline needs is missing.")
    return 1 if missing else 0


def findings(folder: Path) -> Iterator[Finding]:
    """All findings. Those that import heavy packages come last."""
    yield _python()
    yield _libraries()
    yield from _space(folder)
    yield from _links(folder)
    yield _checkpoints(folder)
    yield _packages(folder)
    yield _package("Snakemake", "snakemake")
    yield from _torch()
    yield _spconv()


def _python() -> Finding:
    version = f"{sys.version.split()[0]}, {sys.executable}"
    if (3, 11) <= sys.version_info < (3, 13):
        return Finding(OK, "Python", version)
    return Finding(MISSING, "Python", f"{version}: 3.11 or 3.12 is needed", SET_UP)


def _libraries() -> Finding:
    missing = missing_libraries()
    if not missing:
        return Finding(OK, "system libraries", ", ".join(DEBIAN_PACKAGES))
    packages = " ".join(DEBIAN_PACKAGES[library] for library in missing)
    remedy = f"sudo apt-get install -y --no-install-recommends {packages}"
    return Finding(MISSING, "system libraries", f"no {', '.join(missing)}, which Open3D loads", remedy)


def _space(folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free / 1e9
    remedy = "" if free >= LEAST_DISK else "Free some space, or link cache/ to a larger disk"
    yield Finding(NOTE if remedy else OK, "disk", f"{free:.0f} GB free in {folder.resolve()}", remedy)
    memory, available = _memory()
    remedy = "" if available >= LEAST_MEMORY else "Close other programs: the demo's largest stage needs about 3 GB"
    cores = len(os.sched_getaffinity(0))
    text = f"{available:.0f} of {memory:.0f} GB free, {cores} CPU cores"
    yield Finding(NOTE if remedy else OK, "memory", text, remedy)
    shared = Path("/dev/shm")
    if not shared.is_dir():
        yield Finding(NOTE, "shared memory", "no /dev/shm, which reader processes on a GPU need", "Mount a tmpfs there")
        return
    size = shutil.disk_usage(shared).total / 1e9
    remedy = "" if size >= LEAST_SHARED else "Reader processes on a GPU need more; in Docker: --shm-size=8g"
    yield Finding(NOTE if remedy else OK, "shared memory", f"{size:.1f} GB in /dev/shm", remedy)


def _memory() -> tuple[float, float]:
    """(all, available) memory in GB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return kilobytes["MemTotal"] / 1e6, kilobytes["MemAvailable"] / 1e6


def _links(folder: Path) -> Iterator[Finding]:
    entries = sorted((folder / "data").glob("*"))
    for entry in entries:
        if not entry.exists():
            remedy = f"ln -sfn /path/to/that/folder {entry}"
            yield Finding(NOTE, "data set", f"{entry} links to {entry.readlink()}, which is not there", remedy)
    there = [
        entry.name + (f" -> {entry.readlink()}" if entry.is_symlink() else "") for entry in entries if entry.exists()
    ]
    if there:
        yield Finding(OK, "data sets", ", ".join(there))
    else:
        remedy = "The demo simulates its own; yours: mkdir -p data && ln -sfn /path/to/folder data/<name>"
        yield Finding(NOTE, "data sets", "none in data/", remedy)


def _checkpoints(folder: Path) -> Finding:
    if not PACKAGED.is_file():
        return Finding(MISSING, "checkpoints", f"{PACKAGED} is not there", "git checkout elite_pipeline/sam/weights")
    known = {Path(about.url).name: name for name, about in ENCODERS.items() if about.url}
    files = sorted((folder / "checkpoints").glob("*"))
    found = ["sam_tiny (packaged)", *(f"{file.name} ({known.get(file.name, 'own')})" for file in files)]
    if files:
        return Finding(OK, "checkpoints", ", ".join(found))
    path = folder / "checkpoints" / next(iter(known))
    encoder = known[path.name]
    remedy = f"The demo needs no other; {encoder}: {where_from(encoder, path).removeprefix('Get it with: ')}"
    return Finding(NOTE, "checkpoints", ", ".join(found), remedy)


def _packages(folder: Path) -> Finding:
    """The requirements of this package, by name."""
    needed = _requirements(folder)
    missing = [name for name in needed if _version(name) is None]
    if missing:
        return Finding(MISSING, "packages", f"no {', '.join(missing)} in {sys.prefix}", SET_UP)
    return Finding(OK, "packages", f"all {len(needed)} that pyproject.toml names")


def _requirements(folder: Path) -> list[str]:
    try:
        words = metadata.requires("elite_pipeline") or []
    except metadata.PackageNotFoundError:
        text = (folder / "pyproject.toml").read_text() if (folder / "pyproject.toml").exists() else ""
        listed = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
        words = re.findall(r'^\s*"([^"]+)"', listed[1], re.MULTILINE) if listed else []
    return [name[0] for word in words if "extra ==" not in word and (name := re.match(r"[A-Za-z0-9_.-]+", word))]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _package(subject: str, package: str) -> Finding:
    version = _version(package)
    return Finding(OK, subject, version) if version else Finding(MISSING, subject, "not installed", SET_UP)


TORCH = """
import torch
print(torch.__version__, torch.version.cuda or "no", sep="\\n")
for k in range(torch.cuda.device_count()):
    about = torch.cuda.get_device_properties(k)
    print(f"{about.name}, {about.total_memory / 1e9:.0f} GB")
"""


def _torch() -> Iterator[Finding]:
    """torch, its CUDA, and the GPUs that it sees."""
    if _version("torch") is None:
        yield Finding(MISSING, "torch", "not installed", SET_UP)
        return
    said, fault = _tried(TORCH)
    if fault:
        yield Finding(MISSING, "torch", f"{_version('torch')} does not import: {fault}", AGAIN)
        return
    version, cuda, *gpus = said
    yield Finding(OK, "torch", f"{version}, built for CUDA {cuda}" if cuda != "no" else f"{version}, without CUDA")
    driver = _driver()
    if gpus:
        yield Finding(OK, "GPU", f"{'; '.join(gpus)}; driver {driver or 'unknown'}")
    elif driver:
        remedy = "Update the driver to one that supports this CUDA. Until then everything runs on the CPU"
        yield Finding(NOTE, "GPU", f"driver {driver} is there, but torch (CUDA {cuda}) sees no GPU", remedy)
    else:
        yield Finding(NOTE, "GPU", "none", "The demo runs without; training at full size needs one")


def _driver() -> str | None:
    """The version of NVIDIA's driver, if there is one."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True)
    return said.stdout.split()[0] if said.returncode == 0 and said.stdout.split() else None


CONVOLUTION = """
import torch
from elite_pipeline.student.sparse import SubMConv3d, sparse_tensor
for device in ["cpu", "cuda"][: 1 + torch.cuda.is_available()]:
    place = torch.tensor([[0, 1, 1, 1], [0, 1, 2, 1]], dtype=torch.int32, device=device)
    layer = SubMConv3d(16, 16, key="doctor").to(device)
    out = layer(sparse_tensor(torch.ones(2, 16, device=device), place, (4, 4, 4), 1)).features
    out.sum().backward()
    if not (out.isfinite().all() and layer.weight.grad.isfinite().all()):
        raise ValueError("the result is not finite")
print("a GPU and on the CPU" if torch.cuda.is_available() else "the CPU")
"""


def _spconv() -> Finding:
    """Which spconv is installed, and whether a small sparse convolution runs on the CPU and on a GPU."""
    installed = [f"{name} {version}" for name in SPCONV if (version := _version(name))]
    if not installed:
        return Finding(MISSING, "spconv", f"neither {' nor '.join(SPCONV)}", SET_UP)
    if len(installed) > 1:
        return Finding(MISSING, "spconv", f"both {' and '.join(installed)}", AGAIN)
    said, fault = _tried(CONVOLUTION)
    if fault:
        return Finding(MISSING, "spconv", f"{installed[0]}: a small convolution fails: {fault}", AGAIN)
    return Finding(OK, "spconv", f"{installed[0]}, a small convolution runs on {said[-1]}")


def _tried(program: str) -> tuple[list[str], str]:
    """(lines that a program of its own printed, why it failed). A crash of that program does not end this one."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    if done.returncode == 0:
        return done.stdout.splitlines(), ""
    if done.returncode < 0:
        return [], f"it was killed by {signal.Signals(-done.returncode).name}"
    return [], (done.stderr.strip().splitlines() or ["no message"])[-1]
