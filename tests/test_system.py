"""System packages: set-up installs the missing ones, or names them in one line that can be typed."""

import subprocess
import sys
from pathlib import Path

import pytest

from elite_pipeline import system
from elite_pipeline.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def lacking(monkeypatch):
    """A library that no machine has."""
    monkeypatch.setitem(system.DEBIAN_PACKAGES, "libNowhere.so.7", "libnowhere7")


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """A function (name, script) that puts a program into the only folder of PATH besides python3's and env's."""
    for name in ("python3", "env", "sh"):
        (tmp_path / name).symlink_to(sys.executable if name == "python3" else f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path))

    def add(name, script):
        (tmp_path / name).write_text(f"#!/usr/bin/env sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return add


def test_missing_library_names_its_debian_package(lacking):
    with pytest.raises(InputError, match=r"sudo apt-get install libnowhere7$"):
        system.import_open3d()


def test_present_libraries_are_no_error(capfd):
    system.check_libraries()
    system.set_up()
    assert capfd.readouterr() == ("", "")


def test_set_up_needs_the_standard_library_alone():
    """It runs before there is an environment: -I and -S leave out everything that is installed."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from elite_pipeline import system; system.set_up()"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)


def test_root_installs_what_is_missing(lacking, programs, monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(system.os, "geteuid", lambda: 0)
    programs("apt-get", f'echo "$DEBIAN_FRONTEND $@" >> {tmp_path}/called')
    system.set_up()
    assert (tmp_path / "called").read_text().splitlines() == [
        "noninteractive update",
        "noninteractive install -y --no-install-recommends libnowhere7",
    ]
    assert capfd.readouterr().out == "Installing missing system packages by apt-get: libnowhere7\n"


def test_sudo_without_a_password_installs(lacking, programs, monkeypatch, tmp_path):
    monkeypatch.setattr(system.os, "geteuid", lambda: 1000)
    programs("sudo", f'echo "sudo $1" >> {tmp_path}/called; shift; exec "$@"')
    programs("true", "exit 0")
    programs("apt-get", f'echo "$@" >> {tmp_path}/called')
    system.set_up()
    assert "install -y --no-install-recommends libnowhere7" in (tmp_path / "called").read_text()
    assert "sudo -n" in (tmp_path / "called").read_text()


def test_sudo_that_asks_for_a_password_is_a_line_to_type(lacking, programs, monkeypatch):
    monkeypatch.setattr(system.os, "geteuid", lambda: 1000)
    programs("apt-get", "exit 1")
    programs("sudo", "exit 1")
    with pytest.raises(InputError, match=r"sudo apt-get install -y --no-install-recommends libnowhere7$"):
        system.set_up()


def test_failing_apt_get_is_shown(lacking, programs, monkeypatch):
    monkeypatch.setattr(system.os, "geteuid", lambda: 0)
    programs("apt-get", 'echo "E: Could not get lock"; exit 100')
    with pytest.raises(InputError, match=r"`apt-get update` failed with exit status 100:\n    E: Could not get lock"):
        system.set_up()


def test_other_systems_get_the_names(lacking, programs):
    with pytest.raises(InputError, match=r"libNowhere\.so\.7.*neither Debian nor Ubuntu.*libnowhere7"):
        system.set_up()


def test_pip_is_installed_where_set_up_needs_it(programs, monkeypatch):
    programs("python3.0", "exit 1")
    monkeypatch.setattr(system, "PYTHONS", ("python3.0", "nowhere"))
    with pytest.raises(InputError, match="this system lacks pip"):
        system.set_up(pip=True)
