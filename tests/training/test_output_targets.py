"""The soft labels of the output: of the frame or aggregated, and the more confident share of each class."""

import pytest
import torch

from elite_pipeline.datasets.classes import class_table
from elite_pipeline.soft_labels import decode, encode
from elite_pipeline.training import output_targets as module
from elite_pipeline.training.examples import Example
from elite_pipeline.training.output_targets import are_confident, confidence, confidence_thresholds, output_targets


class Scans:
    """Examples whose only content are aggregated soft labels."""

    def __init__(self, *aggregated):
        self.aggregated, self.classes, self.read = aggregated, class_table("semantickitti"), []

    def __len__(self):
        return len(self.aggregated)

    def __getitem__(self, item):
        self.read.append(item)
        return example(aggregated=self.aggregated[item])


def example(teacher=None, aggregated=None):
    """Points with own-frame soft labels `teacher` (n, S, 20), or with `aggregated` ones, (n, 20) logits."""
    teacher = torch.zeros(0, 0, 20) if teacher is None else teacher
    aggregated = torch.zeros(0, 20) if aggregated is None else aggregated
    count = max(len(teacher), len(aggregated))
    blank = torch.zeros(count, dtype=torch.int64)
    codes = encode(aggregated) if len(aggregated) else torch.zeros(0, 0, dtype=torch.uint8)
    none = torch.full((len(teacher),), -1)
    targets = {"reached": torch.arange(len(aggregated)).flip(0), "aggregated": codes}
    return Example(
        torch.zeros(count, 4), blank, torch.arange(len(teacher)), teacher, blank, none, torch.zeros(0, 0, 0), **targets
    )


def losses_of(student_settings, **values):
    return student_settings.losses.model_copy(update={"output": 1.0, "targets": "aggregated", **values})


def random_logits(seed, count, spread=6.0):
    return spread * torch.randn(count, 20, generator=torch.Generator().manual_seed(seed))


def test_targets_of_the_frame_are_the_mean_of_the_chosen_stages(student_settings):
    teacher = torch.stack([random_logits(k, 30) for k in range(4)], dim=1)
    frame = losses_of(student_settings, targets="frame", stages=[3, 1], temperature=2.0)
    points, logits = output_targets(example(teacher, random_logits(9, 50)), frame, 20)
    assert points.tolist() == list(range(30))
    mean = ((teacher[:, 1] / 2).softmax(1) + (teacher[:, 3] / 2).softmax(1)) / 2
    torch.testing.assert_close((logits / 2).softmax(1), mean, atol=1e-6, rtol=1e-4)


def test_aggregated_targets_are_those_of_the_store(student_settings):
    aggregated = random_logits(9, 50)
    found = example(torch.stack([random_logits(1, 30)] * 4, dim=1), aggregated)
    points, logits = output_targets(found, losses_of(student_settings), 20)
    assert points.tolist() == list(range(49, -1, -1))
    assert torch.equal(logits, decode(encode(aggregated), 20))


@pytest.mark.parametrize("targets", ["frame", "aggregated"])
def test_a_scan_without_soft_labels_has_no_targets(student_settings, targets):
    points, logits = output_targets(example(), losses_of(student_settings, targets=targets), 20)
    assert (tuple(points.shape), tuple(logits.shape)) == ((0,), (0, 20))
    assert are_confident(logits, torch.zeros(20, dtype=torch.int64)).tolist() == []


def test_confidence_grows_with_the_probability_and_stays_in_its_bins():
    sure = torch.tensor([-60.0, 0.0, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 60.0, 6e4])
    logits = torch.zeros(len(sure), 20)
    logits[:, 7] = sure
    likeliest, place = confidence(logits)
    assert likeliest[2:].tolist() == [7] * (len(sure) - 2)
    assert torch.equal(place[1:], place[1:].sort().values)
    assert len(place[1:9].unique()) == 8, "16 % and 99.99 % are in different bins"
    assert (place.min(), place.max()) >= (0, 0)
    assert place.max() == module.BINS - 1
    logits[:, 0] = 70.0  # no class
    assert (confidence(logits)[0] != 0).all()


@pytest.mark.parametrize("share", [0.5, 0.25, 0.8, 0.01])
def test_the_more_confident_share_of_every_class_teaches(student_settings, share):
    """Class 1 is always near certain and class 2 always a guess, and one class has a single soft label."""
    scans = [random_logits(seed, 4000, spread=0.5) for seed in range(3)]
    for logits in scans:
        logits[:2000, 1] += torch.linspace(3, 12, 2000)
        logits[2000:, 2] += torch.linspace(2.0, 3.0, 2000)
        logits[:, 19] -= 9
    scans[2][0] = 0
    scans[2][0, 19] = 1.0
    thresholds = confidence_thresholds(Scans(*scans), losses_of(student_settings, confident=share))
    assert thresholds[1] > thresholds[2] > thresholds[19] > 0
    logits = decode(encode(torch.cat(scans)), 20)
    likeliest, place = confidence(logits)
    kept = are_confident(logits, thresholds)
    for of_class in likeliest.unique().tolist():
        own = likeliest == of_class
        in_bin = (place[own] == thresholds[of_class]).double().mean()
        assert share <= kept[own].double().mean() < share + in_bin
        assert kept[own].all() or place[own & kept].min() > place[own & ~kept].max()
    assert kept[likeliest == 19].all()
    assert not thresholds[likeliest.bincount(minlength=20) == 0].any()


def test_all_soft_labels_of_one_confidence_teach(student_settings):
    """A quantile cannot divide them. Leaving out all of them would silence the class."""
    same = torch.zeros(100, 20)
    same[:, 5] = 3.0
    thresholds = confidence_thresholds(Scans(same), losses_of(student_settings, confident=0.1))
    assert are_confident(decode(encode(same), 20), thresholds).all()


def test_many_scans_are_read_evenly_and_only_some_of_them(student_settings, monkeypatch):
    monkeypatch.setattr(module, "SCANS", 10)
    scans = Scans(*[random_logits(0, 5)] * 33)
    first = confidence_thresholds(scans, losses_of(student_settings, confident=0.5))
    assert scans.read == list(range(0, 33, 4))
    assert torch.equal(first, confidence_thresholds(scans, losses_of(student_settings, confident=0.5)))
    few = Scans(*[random_logits(0, 5)] * 10)
    confidence_thresholds(few, losses_of(student_settings, confident=0.5))
    assert few.read == list(range(10))


def test_scans_without_soft_labels_do_not_count(student_settings):
    none, some = torch.zeros(0, 20), random_logits(3, 200)
    settings = losses_of(student_settings, confident=0.5)
    alone, among = (
        confidence_thresholds(Scans(some), settings),
        confidence_thresholds(Scans(none, some, none), settings),
    )
    assert torch.equal(alone, among)
    assert confidence_thresholds(Scans(none), settings).tolist() == [0] * 20
