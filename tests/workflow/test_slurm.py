"""The SLURM profile on a real SLURM: a private cluster with one node, on the loopback address of this machine."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

SLURM_CONF = """\
ClusterName=private
SlurmctldHost=localhost
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=localhost CPUs=2 RealMemory=24000 Gres=gpu:1
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)


@pytest.fixture
def cluster(tmp_path_factory):
    """A function (*command, cwd) that runs a command on a cluster (2 CPUs, 24 GB, one GPU) and returns its output."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name)]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install munge slurmctld slurmd slurm-client")
    folder = tmp_path_factory.mktemp("slurm")
    # Each command runs in its own namespaces. There the folder is /etc/slurm (the srun of a job does not get
    # SLURM_CONF) and the host's address is loopback. Left-over processes end with the command, and the command ends
    # with this process.
    namespaces = "--mount --mount-proc --uts --pid --fork --kill-child"
    script = 'hostname localhost && mount --bind "$0" /etc/slurm && exec "$@"'
    inside = ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces.split(), "sh", "-c", script, str(folder)]
    if subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("needs root, with the right to create namespaces")
    settings = {"folder": folder, "controller_port": free_port(), "node_port": free_port()}
    (folder / "slurm.conf").write_text(SLURM_CONF.format(**settings))
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")  # counted, not used
    (folder / "munge.key").touch(mode=0o600)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"

    def run(*command, cwd=folder):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 300}
        return subprocess.run([*inside, *command], cwd=cwd, env=env, **options).stdout

    with ExitStack() as stack:

        def start(*command):
            log = stack.enter_context(open(folder / f"{command[0]}.log", "w"))
            daemon = subprocess.Popen([*inside, *command], cwd=folder, env=env, stdout=log, stderr=log)
            stack.callback(daemon.wait)
            stack.callback(daemon.kill)

        files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed")]
        start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
        wait_for((folder / "munge.socket").exists, "munged")
        start("slurmctld", "-D")
        start("slurmd", "-D")
        wait_for(lambda: run("sinfo", "-h", "-o", "%t") == "idle\n", f"idle node, see {folder}")
        yield run


def test_profile_on_a_cluster(tmp_path, cluster):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["datasets"]["demo"]["simulate_drive"].update(frames=2, columns=256, image_width=128, image_height=40)
    config["datasets"]["demo"]["train"] = ["00", "01"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = ["snakemake", "--workflow-profile", ROOT / "workflow/profiles/slurm", "--snakefile", ROOT / "Snakefile"]
    several = ("index_frames", "keep_labels", "project_points", "label_images")
    command += ["--cores", "2", "--latency-wait", "5", "--group-components", *(f"{rule}=2" for rule in several)]
    # There is no accounting database, so sacct does not work. Jobs take seconds: check after 4 s and 18 s, not 40 s.
    command += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "4"]
    wanted = [f"cache/demo/pseudo_labels/{sequence}.zarr" for sequence in ("00", "01")]
    output = cluster(*map(str, command), *wanted, cwd=tmp_path)
    assert "11 of 11 steps (100%) done" in output, output
    assert output.count("has been submitted with SLURM jobid") == 7, output
    assert all(list((tmp_path / store).iterdir()) for store in wanted)

    # Ask SLURM about its jobs: CPUs, memory, time limit and GPUs are those of the rules. Two sequences on the CPU take
    # twice the CPUs and the memory; two that need the one GPU take twice the time.
    jobs = [dict(re.findall(r"(\S+?)=(\S+)", line)) for line in cluster("scontrol", "show", "job", "-o").splitlines()]
    keys = ("JobState", "NumCPUs", "MinMemoryNode", "TimeLimit", "TresPerJob")
    assert {job["Comment"].split("_wildcards")[0]: tuple(map(job.get, keys)) for job in jobs} == {
        "rule_simulate_drive": ("COMPLETED", "1", "2000M", "01:00:00", None),
        "rule_index_frames_index_frames": ("COMPLETED", "2", "4000M", "02:00:00", None),
        "rule_select_labels": ("COMPLETED", "1", "1000M", "00:10:00", None),
        "rule_keep_labels_keep_labels": ("COMPLETED", "2", "2000M", "00:10:00", None),
        "rule_project_points_project_points": ("COMPLETED", "2", "8000M", "02:00:00", None),
        "rule_label_images_label_images": ("COMPLETED", "1", "8000M", "2-00:00:00", "gres:gpu:1"),
    }
