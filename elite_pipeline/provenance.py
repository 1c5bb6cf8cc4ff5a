"""Provenance of results: versions, commit, device. It is written into results, never into the params of a rule."""

import os
import platform
import re
import subprocess
import zlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elite_pipeline.config.validation import Section

PACKAGES = (
    "elite_pipeline",
    "torch",
    "spconv-cu126",
    "spconv-cu120",
    "segment-anything",
    "peft",
    "zarr",
    "numpy",
    "open3d",
    "kiss-icp",
    "scikit-image",
    "scikit-learn",
    "snakemake",
)


def versions() -> dict[str, str]:
    """Returns package name -> version for the installed `PACKAGES` and for Python."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def digest(path: Path | str) -> str | None:
    """Returns the crc32 (8 hex digits) of a file; of a store, that of its final `zarr.json`; None if it is missing."""
    path = Path(path)
    path = path / "zarr.json" if path.is_dir() else path
    return f"{zlib.crc32(path.read_bytes()):08x}" if path.exists() else None


def listing_digest(paths: Iterable[Path]) -> str:
    """Returns the crc32 (8 hex digits) of names, sizes and dates of the files at `paths`; folders: direct entries.

    The digest changes if a link leads to another folder, and if a file is replaced by an older or newer one. No file is
    opened: a folder of 100,000 files takes about a second.
    """
    listed = []
    for path in map(Path, paths):
        entries = os.scandir(path) if path.is_dir() else [path]
        stats = [(entry.name, entry.stat()) for entry in entries if not entry.name.startswith(".")]
        listed += sorted((path.name, name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    return f"{zlib.crc32(repr(listed).encode()):08x}"


def provenance(settings: "Section", *inputs: Path | str) -> dict[str, Any]:
    """Returns the provenance of a store: its settings, the digest of each input, and the versions of the software."""
    return {
        "settings": settings.model_dump(mode="json"),
        "inputs": {str(path): digest(path) for path in inputs},
        "versions": versions(),
    }


def commit() -> str | None:
    """Returns the git commit of the running code, plus `+changes` if files differ from it; None outside a checkout."""
    root = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def device_name() -> str:
    """Returns the name of the GPU, or the name of the processor and its number of usable cores."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    models = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return (
        f"{models[0] if models else platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    )


def file_of_device(folder: Path, what: str) -> Path:
    """Returns `folder`/<what>_<device>.json: the file of a benchmark on this device."""
    return Path(folder, f"{what}_{re.sub(r'[^a-z0-9]+', '_', device_name().lower()).strip('_')}.json")


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
