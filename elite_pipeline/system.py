"""System libraries that wheels expect; `python -m elite_pipeline.system` names the packages of missing ones."""

import ctypes
import sys

DEBIAN_PACKAGES = {"libGL.so.1": "libgl1", "libX11.so.6": "libx11-6", "libgomp.so.1": "libgomp1"}
"""What Open3D 0.19 loads besides libc -> the Debian or Ubuntu package that holds it."""


def missing_packages():
    """Debian packages of the libraries that cannot be loaded."""
    missing = []
    for library, package in DEBIAN_PACKAGES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    return missing


if __name__ == "__main__":
    if packages := missing_packages():
        sys.exit(f"error: Open3D needs system libraries that are missing: sudo apt-get install {' '.join(packages)}")
