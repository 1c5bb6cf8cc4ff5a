"""Two processes equal one process with twice the batch, up to rounding, also if one of them lacks labels or targets.

They also resume together. Run as a script, this file is one of two processes of a group; pytest compares its results
with those of one process.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed as torch_distributed
from torch import nn

from elite_pipeline import distributed, store
from elite_pipeline.config import StudentSettings
from elite_pipeline.config.validation import flatten
from elite_pipeline.errors import InputError
from elite_pipeline.soft_labels import encode
from elite_pipeline.stages import pretrain_student, train_student
from elite_pipeline.student.model import build
from elite_pipeline.student.norm import BatchNorm
from elite_pipeline.training.examples import Example, collate
from elite_pipeline.training.objective import ClassWeights, SegmentationLearner, total_loss

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
GATHERED = [(5, 2), (0, 3), (4, 0)]
"""Numbers of rows of the two processes."""
NORMALISED = [(7, 3), (1, 6), (5, 0), (1, 1), (0, 1)]
STAGES, FEATURES = 4, 6


def of_group(sizes, rank):
    """Returns (rows (n, 3), labels (n,)) of process `rank`; None: of both. Rows are far from 0, where sums cancel."""
    generator = torch.Generator().manual_seed(sum(sizes))
    rows = 300 + torch.randn(sum(sizes), 3, generator=generator) * torch.tensor([1.0, 3.0, 30.0])
    labels = torch.randint(5, (sum(sizes),), generator=generator)
    if rank is None:
        return rows, labels
    return rows.split(sizes)[rank], labels.split(sizes)[rank]


def gather(sizes, rank):
    """Returns the gathered rows, the loss, and the gradient of the weights that made the rows."""
    weights = torch.linspace(-1, 1, 6).view(3, 2).requires_grad_()
    x, labels = of_group(sizes, rank)
    unlike = torch.zeros(len(x), 4, 2) + labels[:, None, None] if len(x) else torch.zeros(0, 0, 0)
    rows, labels, unlike = distributed.gathered((x - 300) @ weights, labels, unlike)
    loss = (rows.softmax(dim=1)[:, 0] * (labels + unlike[:, 3, 1])).sum() / len(rows) + rows.std()
    loss.backward()
    return {"rows": rows, "labels": labels, "unlike": unlike, "loss": loss, "gradient": averaged(weights.grad)}


def normalise(sizes, rank):
    """Runs two steps through a `BatchNorm`. Returns outputs, gradients of rows and weights, running statistics."""
    norm, found = BatchNorm(3), {}
    nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(0))
    for step in range(2):
        x, labels = of_group(sizes, rank)
        x = (x + step).requires_grad_()
        y = norm(x)
        ((y + labels[:, None]) ** 3).sum().backward()
        found |= {f"output_{step}": y, f"gradient_{step}": x.grad}
    parameters = {f"gradient_{name}": summed(p.grad) for name, p in norm.named_parameters()}
    return found | parameters | dict(norm.state_dict())


def learn(settings, rank, **losses):
    """Returns every loss, its parts, and the gradient of every weight. One scan has labels, the other has targets."""
    losses = {"output": 0.5, "features": 2, "carried": 0.5, **losses}
    settings = settings.model_copy(update={"losses": settings.losses.model_copy(update=losses)})
    torch.manual_seed(0)
    student = build(settings.network, 20)
    learner = SegmentationLearner(student, 20, FEATURES)
    scans = [scan(400, labelled=True, taught=0, patches=0), scan(250, labelled=False, taught=90, patches=7)]
    batch = collate(scans if rank is None else scans[rank : rank + 1])
    weights = ClassWeights(torch.linspace(0, 1, 20), torch.linspace(1, 2, 20), torch.linspace(2, 1, 20))
    weights = weights._replace(thresholds=torch.full((20,), 70))
    loss, parts = total_loss(learner(batch.points, batch.scan, batch.scans), batch, student, weights, settings.losses)
    loss.backward()
    gradients = {name: averaged(parameter.grad) for name, parameter in learner.named_parameters()}
    return {"loss": loss, **parts, **gradients, **{name: value for name, value in learner.named_buffers()}}


def scan(points, *, labelled, taught, patches):
    """Returns a scan with soft labels at `taught` points and features of `patches` image patches.

    With `taught`, it also has as many aggregated soft labels and carried labels.
    """
    generator = torch.Generator().manual_seed(points)
    xyz = torch.rand(points, 4, generator=generator) * torch.tensor([30.0, 30, 5, 1]) - torch.tensor([15.0, 15, 3, 0])
    labels = torch.randint(20, (points,), generator=generator) * labelled
    return Example(
        points=xyz,
        labels=labels,
        instances=torch.zeros(points, dtype=torch.int64),
        taught=torch.randperm(points, generator=generator)[:taught],
        teacher=torch.randn(taught, STAGES, 20, generator=generator),
        patch_of=torch.randint(-1, max(patches, 1), (taught,), generator=generator),
        patches=torch.randn(patches, STAGES, FEATURES, generator=generator),
        reached=torch.randperm(points, generator=generator)[:taught],
        aggregated=encode(3 * torch.randn(taught, 20, generator=generator)),
        carried=torch.randperm(points, generator=generator)[:taught],
        carried_label=torch.randint(1, 20, (taught,), generator=generator),
        carried_weight=torch.rand(taught, generator=generator),
    )


def averaged(gradient):
    """Returns the gradient as DDP averages it."""
    return summed(gradient) / distributed.world()


def summed(tensor):
    if distributed.world() > 1:
        torch_distributed.all_reduce(tensor)
    return tensor


def in_group(settings, folder, rank):
    """Compute all of the above as process `rank` of two, and save it to `folder`."""
    torch_distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {f"gather {sizes}": gather(sizes, rank) for sizes in GATHERED}
    found |= {f"normalise {sizes}": normalise(sizes, rank) for sizes in NORMALISED}
    found["nothing"] = distributed.gathered(torch.zeros(0, 2), torch.zeros(0))
    found["learn frame"] = learn(settings, rank)
    found["learn aggregated"] = learn(settings, rank, targets="aggregated")
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """A function of the settings that returns the results of both processes. They run only once."""
    folder, found = tmp_path_factory.mktemp("group"), []

    def run(settings):
        if not found:
            words = [sys.executable, __file__, settings.model_dump_json(), str(folder)]
            both = [subprocess.Popen([*words, str(rank)], env=ENVIRONMENT) for rank in range(2)]
            assert [process.wait(timeout=600) for process in both] == [0, 0]
            found.extend(torch.load(folder / f"{rank}.pt") for rank in range(2))
        return found

    return run


@pytest.mark.parametrize("sizes", GATHERED, ids=str)
def test_gathered_rows_and_the_gradient_equal_those_of_one_process(of_two, student_settings, sizes):
    one = gather(sizes, None)
    for found in of_two(student_settings):
        assert torch.equal(found[f"gather {sizes}"]["labels"], one["labels"])
        torch.testing.assert_close(found[f"gather {sizes}"], one)


def test_gathering_works_if_no_process_has_rows(of_two, student_settings):
    for found in of_two(student_settings):
        assert [tuple(rows.shape) for rows in found["nothing"]] == [(0, 2), (0,)]


@pytest.mark.parametrize("sizes", NORMALISED, ids=str)
def test_normalises_over_the_rows_of_all_processes(of_two, student_settings, sizes):
    one, two = normalise(sizes, None), [found[f"normalise {sizes}"] for found in of_two(student_settings)]
    for name, expected in one.items():
        if name[-1].isdigit():  # values of rows: each process has its own
            torch.testing.assert_close(torch.cat([found[name] for found in two]), expected, rtol=1e-3, atol=1e-4)
        else:
            torch.testing.assert_close(two[0][name], expected, rtol=1e-3, atol=1e-4)
            assert torch.equal(two[0][name], two[1][name])


@pytest.mark.parametrize("targets", ["frame", "aggregated"])
def test_a_process_with_labels_and_one_with_targets_equal_one_process_with_both(of_two, student_settings, targets):
    one = learn(student_settings, None, targets=targets)
    terms = ("cross_entropy", "lovasz", "auxiliary", "distillation", "output", "features", "carried")
    assert set(one) > set(terms)
    assert all(one[name] > 0 for name in terms)
    largest = max(float(value.detach().abs().max()) for name, value in one.items() if name.endswith(("weight", "bias")))
    for found in of_two(student_settings):
        found = found[f"learn {targets}"]
        assert set(found) == set(one)
        for name, expected in one.items():
            # Sums in another order differ by about 1e-7 of their largest terms. These terms cancel completely for a
            # bias before a normalisation, so its gradient consists only of rounding.
            atol = max(1e-6 * largest, 1e-4 * float(expected.detach().abs().max()))
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=atol, msg=name)


def trained_with(settings, section="train_student", **options):
    """Returns `settings` with other options of `section`, and with SGD.

    SGD keeps the rounding of a gradient small. AdamW would make full steps from gradients that are only rounding.
    """
    options = {"optimiser": "sgd", "learning_rate": 0.05, "epochs": None, **options}
    options = getattr(settings, section).model_copy(update=options)
    return settings.model_copy(update={section: options})


def words(taught, out, settings, run=None):
    files = [word for name, path in taught.items() for word in (f"--{name}", str(path))]
    return [*files, "--run", str(run or out / "run"), "--out", str(out), *flatten(settings.model_dump(mode="json"))]


def command(*arguments, stage="train_student"):
    return [sys.executable, "-m", *(f"elite_pipeline.stages.{stage}", *words(*arguments))]


def log_of(folder):
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one_with_twice_the_batch(taught, student_settings, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train_student.main(words(taught, one, trained_with(student_settings, steps=3, batch=4)))
    both = trained_with(student_settings, steps=3, batch=2, processes=2)
    done = subprocess.run(command(taught, two, both), env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("3/3 steps") == 1
    names = ("loss", "cross_entropy", "lovasz", "auxiliary", "distillation", "learning_rate")
    for expected, found in zip(log_of(one), log_of(two), strict=True):
        assert [found[name] for name in names] == pytest.approx([expected[name] for name in names], rel=1e-4)
        assert found["gradient"] == pytest.approx(expected["gradient"], rel=1e-3)
    expected, found = load_file(one / "student.safetensors"), load_file(two / "student.safetensors")
    assert set(expected) == set(found)
    for name in expected:
        # Gradients are equal up to 1e-6 of their largest entry (see above). In a later step only one of the two may
        # cross a kink (LeakyReLU, the order of Lovász), which no rounding tolerance covers. Hence few, small steps.
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=2e-5, msg=name)
    assert json.loads((two / "config.json").read_text())["processes"] == 2
    assert list((two / "run").iterdir()) == []


@pytest.mark.slow
def test_two_processes_pretrain_as_one_with_twice_the_batch(taught, rewrite_targets, pretraining_settings, tmp_path):
    """The contrast is over the superpixels of both processes. In one step, one process has a scan without any."""
    rng = np.random.default_rng(0)
    rewrite_targets(taught["targets"], patch_feature=rng.integers(-20, 20, size=(20, 4, 5)).astype(np.int8))
    one, two, superpixels = tmp_path / "one", tmp_path / "two", tmp_path / "superpixels"
    frames = ["000000", "000001", "000002"]
    with store.create(superpixels, "superpixels", sequence="00", frames=frames, provenance={}) as out:
        out.array("segment", rng.integers(4, size=130).astype(np.uint16))
    contrast = pretraining_settings.contrast.model_copy(update={"level": "superpixel"})
    settings = pretraining_settings.model_copy(update={"contrast": contrast})
    taught = {**taught, "superpixels": superpixels}
    alone = trained_with(settings, "pretrain_student", steps=3, batch=2)
    pretrain_student.main(words(taught, one, alone, tmp_path / "run"))
    both = trained_with(settings, "pretrain_student", steps=3, batch=1, processes=2)
    together = command(taught, two, both, tmp_path / "run", stage="pretrain_student")
    done = subprocess.run(together, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert {line["pairs"] for line in log_of(one)} == {8, 16}
    for expected, found in zip(log_of(one), log_of(two), strict=True):
        assert (found["pairs"], found["matched"]) == (expected["pairs"], expected["matched"])
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert found["gradient"] == pytest.approx(expected["gradient"], rel=1e-3)
    for name in ("backbone.safetensors", "module.safetensors"):
        expected, found = load_file(one / name), load_file(two / name)
        assert set(expected) == set(found)
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=2e-5, msg=key)


@pytest.mark.slow
def test_killed_and_restarted_two_processes_end_in_the_same_weights_as_on_two_machines(
    taught, student_settings, tmp_path
):
    settings = trained_with(student_settings, steps=30, batch=1, processes=2, checkpoint_every=4)
    killed, apart = tmp_path / "killed", tmp_path / "apart"
    process = subprocess.Popen(command(taught, killed, settings), stderr=subprocess.PIPE, env=ENVIRONMENT)
    while process.poll() is None and not list(killed.glob("run/*/checkpoint.pt")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=600)  # waits for the second process too, which also holds the pipe
    assert process.returncode == -signal.SIGKILL
    (log,) = killed.glob("run/*/training.jsonl")
    assert 4 <= len(log.read_text().splitlines()) < 30
    done = subprocess.run(command(taught, killed, settings), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("resumed from") == 1

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1"]
    # Without "--", torchrun would read our --run as an abbreviation of its own option.
    torchrun += ["--master-port", str(port)]
    # The two machines have separate folders.
    out = [apart, tmp_path / "second"]
    machines = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                *torchrun,
                "--node-rank",
                str(rank),
                "-m",
                "--",
                *command(taught, out[rank], settings)[2:],
            ],
            env=ENVIRONMENT,
        )
        for rank in range(2)
    ]
    assert [machine.wait(timeout=600) for machine in machines] == [0, 0]
    assert not out[1].exists()
    assert [line["loss"] for line in log_of(apart)] == [line["loss"] for line in log_of(killed)]
    assert (apart / "student.safetensors").read_bytes() == (killed / "student.safetensors").read_bytes()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"train_student\.processes is 3, but this machine has 2 GPUs\. Write 2"):
        distributed.start(3, "32-true")
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"torchrun --nproc-per-node is 4, but this machine has 2 GPUs\. Write 2"):
        distributed.start(1, "32-true")


if __name__ == "__main__":
    in_group(StudentSettings.model_validate_json(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
