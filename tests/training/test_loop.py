"""The training loop: the same bits after an interruption, and errors that name their remedy."""

import json

import pytest
import torch

from elite_pipeline.errors import InputError
from elite_pipeline.training import loop
from elite_pipeline.training.examples import Examples
from elite_pipeline.training.loop import fingerprint
from elite_pipeline.training.segmentation import Segmentation


@pytest.fixture
def examples(taught, open_taught):
    return Examples(open_taught(taught))


def changed(settings, section, **values):
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def train(examples, settings, run):
    """(result of `loop.train`, weights of the student)."""
    task = Segmentation(examples, settings)
    return loop.train(task, run), task.student.state_dict()


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_an_interrupted_and_resumed_run_ends_in_the_same_bits(examples, student_settings, tmp_path, interrupted):
    whole, expected = train(examples, student_settings, tmp_path / "whole")
    often = changed(student_settings, "train_student", checkpoint_every=2)
    interrupted(2, train, examples, often, tmp_path / "parts")
    resumed, found = train(examples, often, tmp_path / "parts")
    assert equal(expected, found)
    logs = [[json.loads(line) for line in trained.log.read_text().splitlines()] for trained in (whole, resumed)]
    assert [line["step"] for line in logs[1]] == list(range(whole.steps)) == [0, 1, 2]
    assert [line["loss"] for line in logs[0]] == [line["loss"] for line in logs[1]]


def test_resumes_only_with_the_same_settings_and_data(examples, student_settings, tmp_path):
    first, weights = train(examples, student_settings, tmp_path)
    again, same = train(examples, student_settings, tmp_path)
    assert first.log == again.log
    assert equal(weights, same)
    other, others = train(examples, changed(student_settings, "train_student", seed=1), tmp_path)
    assert other.log.parent != first.log.parent
    assert not equal(weights, others)
    assert fingerprint(student_settings, "a") != fingerprint(student_settings, "b")


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_the_loss_on_the_training_scans_falls(examples, student_settings, tmp_path, optimiser):
    rate = {"sgd": 0.1, "adamw": 0.02}[optimiser]
    still = {"rotate": False, "flip": False, "scale": 0.0, "translate": 0.0, "drop": 0.0}
    settings = changed(student_settings, "train_student", optimiser=optimiser, epochs=20, learning_rate=rate)
    trained, _ = train(examples, changed(settings, "augmentation", **still), tmp_path)
    values = [json.loads(line)["cross_entropy"] for line in trained.log.read_text().splitlines()]
    assert sum(values[-4:]) < 0.8 * sum(values[:4])


def test_errors_name_their_remedy(examples, student_settings, tmp_path):
    with pytest.raises(InputError, match="4 stages and the student 3"):
        train(examples, changed(student_settings, "network", scales=[2, 4, 8]), tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="32-true"):
            train(examples, changed(student_settings, "train_student", precision="16-mixed"), tmp_path)
    wild = changed(student_settings, "train_student", optimiser="sgd", learning_rate=1e30, clip=1e30, warmup=0)
    with pytest.raises(InputError, match="learning_rate"):
        train(examples, changed(wild, "train_student", epochs=10), tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-3), ("16-mixed", 2e-2)])
def test_a_gpu_resumes_and_learns_the_same_as_a_cpu(
    examples, student_settings, tmp_path, monkeypatch, interrupted, precision, tolerance
):
    """With SGD: the first steps of AdamW are equally long for small and large gradients, which magnifies rounding."""
    options = {"optimiser": "sgd", "learning_rate": 0.01, "epochs": 8, "checkpoint_every": 5}
    settings = changed(student_settings, "train_student", **options)
    on_gpu = changed(settings, "train_student", precision=precision)
    whole, weights = train(examples, on_gpu, tmp_path / "whole")
    assert all(value.isfinite().all() and value.is_cuda for value in weights.values())
    interrupted(7, train, examples, on_gpu, tmp_path / "parts")
    resumed, _ = train(examples, on_gpu, tmp_path / "parts")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu, _ = train(examples, settings, tmp_path / "cpu")
    lines = [[json.loads(line) for line in run.log.read_text().splitlines()] for run in (whole, resumed, on_cpu)]
    losses = [torch.tensor([line["cross_entropy"] for line in found]) for found in lines]
    assert len(losses[0]) == 12
    torch.testing.assert_close(losses[1], losses[0], rtol=tolerance, atol=0)
    if precision == "32-true":  # the scaler of 16-mixed skips the first steps, until gradients are finite
        torch.testing.assert_close(losses[0], losses[2], rtol=tolerance, atol=0)
