"""Missing system libraries are one line that says what to install."""

import pytest

from elite_pipeline import system
from elite_pipeline.errors import InputError


def test_missing_library_names_its_debian_package(monkeypatch):
    monkeypatch.setitem(system.DEBIAN_PACKAGES, "libNowhere.so.7", "libnowhere7")
    with pytest.raises(InputError, match=r"sudo apt-get install libnowhere7$"):
        system.import_open3d()


def test_present_libraries_are_no_error():
    system.check_libraries()
