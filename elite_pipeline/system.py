"""System libraries that wheels expect; `python -m elite_pipeline.system` names the packages of missing ones."""

import ctypes
import importlib
import sys
from types import ModuleType

from elite_pipeline.errors import InputError, run

DEBIAN_PACKAGES = {"libGL.so.1": "libgl1", "libX11.so.6": "libx11-6", "libgomp.so.1": "libgomp1"}
"""What Open3D 0.19 loads besides libc -> the Debian or Ubuntu package that holds it."""

OPEN3D_UNUSED = {
    "open3d.ml": {},
    "open3d.visualization.draw_plotly": {"draw_plotly": None, "draw_plotly_server": None},
}
"""Modules of Open3D that the simulator does not use -> the names that `import open3d` takes from them. They would load
scikit-learn, pandas and dash, which takes four times as long as the rest."""


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
                del sys.modules[name]  # whoever imports it now gets the real one
    return importlib.import_module("open3d")


if __name__ == "__main__":
    run(check_libraries)
