"""Packages of the operating system that the pipeline needs: libraries that Open3D loads, and pip.

Set-up runs `python3 -m elite_pipeline.system`, with the system's Python and before there is an environment. So this
module imports the standard library only. It installs missing packages if this user may, and otherwise names them.
`--pip` also asks for pip, which installs uv.
"""

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
from types import ModuleType

from elite_pipeline.errors import InputError, run

DEBIAN_PACKAGES = {"libGL.so.1": "libgl1", "libX11.so.6": "libx11-6", "libgomp.so.1": "libgomp1"}
"""Libraries that Open3D 0.19 loads besides libc -> the Debian or Ubuntu package that holds each."""

PYTHONS = ("python3", "/usr/bin/python3")
"""Where set-up looks for pip. An activated virtual environment may have none; the system's Python then has."""

OPEN3D_UNUSED = {
    "open3d.ml": {},
    "open3d.visualization.draw_plotly": {"draw_plotly": None, "draw_plotly_server": None},
}
"""Modules of Open3D that the simulator does not use -> the names that `import open3d` takes from them. They would load
scikit-learn, pandas and dash, which takes seconds (`benchmarks/starts.py`)."""


def missing_libraries() -> list[str]:
    """The libraries of `DEBIAN_PACKAGES` that cannot be loaded."""
    missing = []
    for library in DEBIAN_PACKAGES:
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(library)
    return missing


def check_libraries() -> None:
    """Load the libraries of `DEBIAN_PACKAGES`. Raises `InputError`, with the line that installs the missing ones."""
    if missing := missing_libraries():
        packages = " ".join(DEBIAN_PACKAGES[library] for library in missing)
        raise InputError(f"Open3D needs system libraries that are missing: sudo apt-get install {packages}")


def import_open3d() -> ModuleType:
    """The module `open3d`, without `OPEN3D_UNUSED`. Raises `InputError` where a system library is missing."""
    check_libraries()
    if "open3d" not in sys.modules:
        for name, values in OPEN3D_UNUSED.items():
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__dict__.update(values)
        try:
            importlib.import_module("open3d")
        finally:
            for name in OPEN3D_UNUSED:
                del sys.modules[name]  # later imports get the real module
    return importlib.import_module("open3d")


def has_pip() -> bool:
    """Whether one of `PYTHONS` has pip."""
    return any(
        shutil.which(python) and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0
        for python in PYTHONS
    )


def set_up(pip: bool = False) -> None:
    """Install the system packages that are missing. Prints nothing where all are there. pip: whether pip is needed.

    Raises `InputError` where this user may not install, where the system is not Debian's, or where apt-get fails.
    """
    missing = {library: DEBIAN_PACKAGES[library] for library in missing_libraries()}
    if pip and not has_pip():
        missing["pip"] = "python3-pip"
    if missing:
        _install(missing)


def _install(missing: "dict[str, str]") -> None:
    """Install packages by apt-get. missing: what is missing -> its package. Raises `InputError`, see `set_up`."""
    packages = " ".join(missing.values())
    if not shutil.which("apt-get"):
        raise InputError(
            f"this system lacks {', '.join(missing)}, and has no apt-get (it is neither Debian nor Ubuntu). Install"
            f" what your system calls {packages}, then run the same command again."
        )
    root = _root()
    if root is None:
        raise InputError(
            "system packages are missing, and this user may not install them without a password. Type this line, then"
            f" run the same command again:\n    sudo apt-get install -y --no-install-recommends {packages}"
        )
    print(f"Installing missing system packages by apt-get: {packages}", flush=True)
    _apt_get(root, "update")
    _apt_get(root, "install", "-y", "--no-install-recommends", *missing.values())


def _root() -> "list[str] | None":
    """The words before a command that run it as root; None if that needs a password."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    may = shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True).returncode == 0
    return sudo if may else None


def _apt_get(root: "list[str]", *words: str) -> None:
    """Run `apt-get` as root. Its output is shown only where it fails. Raises `InputError` with its last lines."""
    command = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *words]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        last = "\n".join(f"    {line}" for line in result.stdout.splitlines()[-8:])
        raise InputError(f"`apt-get {' '.join(words)}` failed with exit status {result.returncode}:\n{last}")


if __name__ == "__main__":
    run(lambda: set_up(pip="--pip" in sys.argv[1:]))
