"""A Python that starts quickly: it forks from a process that has already imported the libraries.

Tests start many stages, and each would spend seconds on importing torch. `WarmPython` starts the server and
makes a `python` that hands its command line to it. The server forks; the child takes over the caller's streams, folder
and environment, and runs the module or code as `__main__`. The server imports libraries only: the package is imported
by the child, from the checkout that PYTHONPATH or the folder says. Whoever kills that `python` kills the child.
"""

import array
import atexit
import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

LIBRARIES = [
    *("torch", "torchvision", "lightning_fabric", "lightning_fabric.strategies.ddp", "peft", "segment_anything"),
    *("numpy", "zarr", "pyarrow.parquet", "scipy.ndimage", "scipy.spatial", "skimage.segmentation", "sklearn.manifold"),
    *("matplotlib.pyplot", "PIL.Image", "pydantic", "safetensors.torch", "snakemake.cli", "snakemake.api", "yaml"),
]

CLIENT = """\
#!{python} -IS
import array, json, os, signal, socket, sys

arguments = sys.argv[1:]
while arguments and arguments[0] in ("-u", "-B"):
    arguments = arguments[1:]
if arguments[:1] not in (["-m"], ["-c"]):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
request = {{"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ), "python": {client!r}}}
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    streams = array.array("i", [0, 1, 2])
    server.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    with server.makefile("rw") as text:
        text.write(json.dumps(request) + "\\n")
        text.flush()
        status = int(text.readline() or 1)
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


class WarmPython:
    """A server in the background, and `path`, the `python` that asks it. Ends with `close`, or with this process."""

    def __init__(self, folder: Path) -> None:
        # Not below `folder`: the path of a socket has at most 107 characters, that of an interpreter 127.
        self.path, address = folder / "python", str(folder / "socket")
        client = CLIENT.format(python=os.path.abspath(sys.executable), address=address, client=str(self.path))
        self.path.write_text(client)
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)
        command = [sys.executable, __file__, address, str(os.getpid())]
        # One thread: the children of a process with a pool of OpenMP threads would wait for threads that they lack.
        settings = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "MPLBACKEND": "agg"}
        environment = {**os.environ, **settings}
        self.server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        assert self.server.stdout is not None
        assert self.server.stdout.readline() == b"ready\n"

    def close(self) -> None:
        self.server.kill()
        self.server.communicate()


def serve(address: str, parent: int) -> None:
    """Import the libraries, then fork for each request until the process `parent` has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the processes of `answer` are not waited for
    import_libraries()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        server.settimeout(1)
        print("ready", flush=True)
        while os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                caller, _ = server.accept()
                with caller:
                    if os.fork() == 0:
                        server.close()
                        answer(caller)


def import_libraries() -> None:
    """Import `LIBRARIES`, and spconv and Open3D as the package does; leave the package itself to the children."""
    root = str(Path(__file__).parents[1])
    sys.path.insert(0, root)
    from elite_pipeline.compiler import leave_out_compiler

    leave_out_compiler()
    for library in LIBRARIES:
        importlib.import_module(library)
    from elite_pipeline.student import sparse  # noqa: F401
    from elite_pipeline.system import import_open3d

    import_open3d()
    for name in [name for name in sys.modules if name.split(".")[0] == "elite_pipeline"]:
        del sys.modules[name]
    sys.path.remove(root)


def answer(caller: socket.socket) -> None:
    """Fork once more, wait for the child, and tell the caller its exit status; kill it where the caller is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, ancillary, _, _ = caller.recvmsg(1, socket.CMSG_SPACE(3 * 4))
    streams = array.array("i", ancillary[0][2])
    with caller.makefile("rw") as text:
        request = json.loads(text.readline())
        child = os.fork()
        if child == 0:
            run(request, streams)
        for stream in streams:
            os.close(stream)
        ended = os.pidfd_open(child)
        while ended not in (ready := select.select([ended, caller], [], [])[0]):
            if caller in ready:  # readable without a message: the caller is gone
                os.kill(child, signal.SIGKILL)
                break
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            text.write(f"{status}\n")
            text.flush()
    os._exit(0)


def run(request: dict, streams: "array.array[int]") -> None:
    """Run the request as a new Python would; does not return."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", 1), open(2, "w", 1)  # noqa: SIM115
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    option, what, *arguments = request["arguments"]
    sys.executable = request["python"]
    sys.argv = ["-c", *arguments] if option == "-c" else [what, *arguments]
    places = filter(None, request["environment"].get("PYTHONPATH", "").split(":"))
    sys.path[:0] = ["" if option == "-c" else request["folder"], *places]
    importlib.invalidate_caches()
    sys.modules["torch"].set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(textwrap.dedent(what), "<string>", "exec"), sys.modules["__main__"].__dict__)
        status: object = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    if not isinstance(status, int):
        if status is not None:
            print(status, file=sys.stderr)
        status = 0 if status is None else 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
