"""System libraries that wheels expect; `python -m elite_pipeline.system` names the packages of missing ones."""

import ctypes
from types import ModuleType

from elite_pipeline.errors import InputError, run

DEBIAN_PACKAGES = {"libGL.so.1": "libgl1", "libX11.so.6": "libx11-6", "libgomp.so.1": "libgomp1"}
"""What Open3D 0.19 loads besides libc -> the Debian or Ubuntu package that holds it."""


def check_libraries() -> None:
    """Look for the libraries of `DEBIAN_PACKAGES`. Raises `InputError`, with the line that installs what is missing."""
    missing = []
    for library, package in DEBIAN_PACKAGES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    if missing:
        raise InputError(f"Open3D needs system libraries that are missing: sudo apt-get install {' '.join(missing)}")


def import_open3d() -> ModuleType:
    """The module `open3d`. Raises `InputError` where one of its system libraries is missing."""
    check_libraries()
    import open3d

    return open3d


if __name__ == "__main__":
    run(check_libraries)
