"""The warm Python behaves as Python: streams, folder, environment, exit status, and death with its caller."""

import os
import signal
import subprocess
import sys
import time


def test_runs_code_as_python_does(warm_python, tmp_path):
    code = "import os, sys; print(os.getcwd(), os.environ['WORD'], sys.argv[1:], __name__); sys.exit('a message')"
    words = ["-c", code, "one", "two words"]
    options = {"cwd": tmp_path, "env": {**os.environ, "WORD": "w"}, "capture_output": True, "text": True}
    cold, warm = (subprocess.run([python, *words], **options) for python in (sys.executable, warm_python))
    assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr)
    assert warm.stdout == f"{tmp_path} w ['one', 'two words'] __main__\n"


def test_runs_modules_of_the_folder_and_of_pythonpath(warm_python, tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text("import sys; print(sys.argv)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "there")}
    for name in ("here", "there"):
        command = [warm_python, "-u", "-m", name, "a"]
        done = subprocess.run(command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True)
        assert done.stdout == f"[{str(tmp_path / name / f'{name}.py')!r}, 'a']\n"


def test_exceptions_and_signals_end_it_as_they_end_python(warm_python):
    failed = subprocess.run([warm_python, "-c", "raise ValueError('a reason')"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.endswith("ValueError: a reason\n")
    assert subprocess.run([warm_python, "-c", "import os; os.kill(os.getpid(), 9)"]).returncode == -signal.SIGKILL


def test_dies_with_its_caller(warm_python, tmp_path):
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(60)"
    with subprocess.Popen([warm_python, "-c", code]) as caller:
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().endswith("."):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        caller.kill()
    child = (tmp_path / "pid").read_text().rstrip(".")
    while os.path.exists(f"/proc/{child}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
