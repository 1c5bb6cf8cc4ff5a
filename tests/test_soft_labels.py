"""The compact form of soft labels: the bounds that it states, for any logits and any number of classes."""

import pytest
import torch

from elite_pipeline.errors import InputError
from elite_pipeline.soft_labels import NAMED, NEVER, STEP, decode, encode, named, predicted_class

CLASSES = [2, 3, 4, 5, 6, 20, 200]


def drawn(classes, sharpness=3.0, points=4000, seed=0):
    """(points, classes) random logits whose standard deviation is `sharpness`."""
    return sharpness * torch.randn(points, classes, generator=torch.Generator().manual_seed(seed))


def extreme(classes):
    """Rows of logits of every strange kind, (n, classes)."""
    generator = torch.Generator().manual_seed(1)
    rows = [
        torch.zeros(classes),
        torch.full((classes,), -6e4),
        torch.full((classes,), 6e4),
        *(6e4 * (2 * torch.eye(classes) - 1)),  # one-hot, also of `IGNORE`
        torch.arange(classes) * 1.0,
        -torch.arange(classes) * 1.0,
        torch.arange(classes) * -100.0,
        torch.linspace(-6e4, 6e4, classes),
        *(1e-3 * torch.randn(5, classes, generator=generator)),  # nearly uniform
        *torch.randint(-1, 2, (20, classes), generator=generator).float(),  # ties
        *(torch.randint(-3, 3, (20, classes), generator=generator) * STEP / 2),  # halfway between two codes
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("classes", CLASSES)
def test_ratios_are_wrong_by_half_a_step_at_most(classes, check_compact):
    for sharpness in (0.01, 0.3, 1.0, 3.0, 10.0, 100.0):
        logits = drawn(classes, sharpness)
        codes = encode(logits)
        assert codes.dtype == torch.uint8
        check_compact(codes, logits)
    check_compact(encode(extreme(classes)), extreme(classes))


@pytest.mark.parametrize("classes", CLASSES)
def test_decoded_ratios_to_the_likeliest_class_keep_the_bound(classes):
    """The same bound at the other end: of the decoded probabilities of the named classes."""
    for logits in (drawn(classes), extreme(classes)):
        codes = encode(logits)
        ids = codes[:, : named(classes)].long()
        exact, found = (x.double().gather(1, ids) for x in (logits, decode(codes, classes)))
        exact, found = exact[:, :1] - exact, found[:, :1] - found
        near = exact < 254 * STEP
        assert ((exact - found).abs()[near] <= STEP / 2 + 1e-4).all()
        assert (found[~near] >= 253.5 * STEP - 1e-4).all(), "as unlikely as can be stated"


@pytest.mark.parametrize("classes", CLASSES)
def test_decoded_soft_labels_are_normalised_and_never_name_ignore(classes):
    for logits in (drawn(classes), extreme(classes)):
        codes = encode(logits)
        found = decode(codes, classes)
        assert found.dtype == torch.float32
        assert found.shape == logits.shape
        assert found.isfinite().all()
        torch.testing.assert_close(found[:, 1:].exp().sum(1), torch.ones(len(found)), rtol=0, atol=1e-5)
        assert (found[:, 0] == NEVER).all()
        assert (codes[:, : named(classes)] > 0).all()
        assert float(found[:, 0].exp().max()) < 1e-12


@pytest.mark.parametrize("classes", CLASSES)
def test_the_logit_of_ignore_has_no_part(classes):
    logits = drawn(classes)
    other = logits.clone()
    other[:, 0] += torch.linspace(-1e4, 1e4, len(other))
    assert torch.equal(encode(other), encode(logits))


@pytest.mark.parametrize("classes", CLASSES)
def test_the_first_class_named_is_the_likeliest(classes):
    for logits in (drawn(classes), drawn(classes, 0.05), extreme(classes)):
        first = encode(logits)[:, :1].long()
        assert torch.equal(logits.gather(1, first)[:, 0], logits[:, 1:].amax(1))
    clear = drawn(classes)
    assert torch.equal(encode(clear)[:, 0].long(), predicted_class(clear))


@pytest.mark.parametrize("classes", CLASSES[1:])
def test_the_likeliest_class_stays_the_likeliest(classes):
    for logits in (drawn(classes), drawn(classes, 0.05), extreme(classes)):
        codes = encode(logits)
        assert torch.equal(predicted_class(decode(codes, classes)), codes[:, 0].long())


@pytest.mark.parametrize("classes", CLASSES)
def test_the_likeliest_class_changes_only_among_classes_within_half_a_step(classes):
    for logits in (drawn(classes), drawn(classes, 0.05), extreme(classes)):
        predicted = predicted_class(decode(encode(logits), classes))
        rows = torch.arange(len(logits))
        assert (logits[:, 1:].amax(1) - logits[rows, predicted] <= STEP / 2 + 1e-4).all()


@pytest.mark.parametrize("classes", CLASSES)
def test_named_classes_are_in_order_and_distinct(classes):
    codes = encode(drawn(classes)).long()
    count = named(classes)
    assert count == min(4, classes - 1) == codes.shape[1] // 2
    steps = codes[:, count:]
    assert (steps.diff(dim=1) >= 0).all()
    assert all(len(set(row)) == count for row in codes[:, :count].tolist())
    values = drawn(classes).gather(1, codes[:, :count])
    assert (values.diff(dim=1) <= 0).all()


@pytest.mark.parametrize("classes", CLASSES)
def test_encoding_what_was_decoded_changes_nothing(classes):
    """Names of equally likely classes may change places, so the decoded form is compared."""
    for logits in (drawn(classes), drawn(classes, 0.1), extreme(classes)):
        codes = encode(logits)
        once = decode(codes, classes)
        again = encode(once)
        count = named(classes)
        assert torch.equal(again[:, count:], codes[:, count:])
        twice = decode(again, classes)
        torch.testing.assert_close(twice.sort(1).values, once.sort(1).values, rtol=0, atol=1e-5)
        distinct = codes[:, count:].long().diff(dim=1, prepend=torch.zeros(len(codes), 1).long()).gt(0).all(1)
        assert torch.equal(again[distinct], codes[distinct])
        torch.testing.assert_close(twice[distinct], once[distinct], rtol=0, atol=1e-5)


def test_all_classes_are_exact_within_the_bound_where_all_are_named():
    for classes in range(2, NAMED + 2):
        logits = drawn(classes)
        exact, found = logits[:, 1:].log_softmax(1), decode(encode(logits), classes)[:, 1:]
        seen = exact - exact.amax(1, keepdim=True) > -254 * STEP
        assert ((exact - found).abs()[seen] <= STEP + 1e-4).all(), "half a step in the ratio, half in the sum"


def test_the_probability_of_the_remaining_classes_together_is_kept():
    logits = drawn(20)
    codes = encode(logits)
    ids = codes[:, :4].long()
    logits[:, 0] = -torch.inf
    exact, kept = (x.exp().scatter(1, ids, 0)[:, 1:].sum(1) for x in (logits.log_softmax(1), decode(codes, 20)))
    ratio = (exact / kept).log().abs()
    assert float(ratio[exact > 1e-4].max()) <= STEP + 1e-4
    found = decode(codes, 20).scatter(1, ids, torch.nan)[:, 1:]
    spread = [row[~row.isnan()] for row in found]
    assert all((row == row[0]).all() for row in spread), "equally likely"


def test_a_soft_label_takes_eight_bytes_at_most():
    for classes in CLASSES:
        codes = encode(drawn(classes, points=1))
        assert codes.nbytes == 2 * min(4, classes - 1) <= 8


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (0, 4), (3, 4), (2, 3, 4), (2, 0, 4)])
@pytest.mark.parametrize("classes", [3, 20])
def test_any_shape_of_soft_labels_is_encoded_alike(shape, classes):
    logits = torch.randn(*shape, classes, generator=torch.Generator().manual_seed(0))
    codes = encode(logits)
    assert codes.shape == (*shape, 2 * named(classes))
    found = decode(codes, classes)
    assert found.shape == logits.shape
    if logits.numel():
        flat = encode(logits.reshape(-1, classes))
        assert torch.equal(codes.reshape(flat.shape), flat)
        assert torch.equal(found.reshape(-1, classes), decode(flat, classes))


def test_float16_logits_are_encoded_as_their_values():
    half = drawn(20).half()
    assert torch.equal(encode(half), encode(half.float()))


def test_scale_and_offset_of_logits_do_not_matter():
    logits = drawn(20)
    assert torch.equal(encode(logits.log_softmax(1)).long()[:, :4], encode(logits).long()[:, :4])
    moved = (encode(logits + 100.0).long() - encode(logits).long())[:, 4:].abs()
    assert int(moved.max()) <= 1, "another rounding"
    assert float((moved > 0).float().mean()) < 0.01


def test_excluded_classes_are_as_unlikely_as_can_be():
    """A logit of minus infinity is a class of probability 0."""
    logits = drawn(20)
    logits[:, 5:] = -torch.inf
    found = decode(encode(logits), 20)
    assert found.isfinite().all()
    assert (found[:, 1:].amax(1)[:, None] - found[:, 5:] >= 255 * STEP - 1e-4).all()
    logits[:, 2:] = -torch.inf
    codes = encode(logits)
    assert (codes[:, 0] == 1).all()
    assert (codes[:, 4:] == 255).all()
    assert float(decode(codes, 20)[:, 1].exp().min()) > 1 - 1e-4


@pytest.mark.parametrize("values", [[torch.nan, 0], [torch.inf, torch.inf], [-torch.inf, -torch.inf]])
def test_logits_without_a_distribution_are_refused(values):
    """Readers of float16 logits refused them. A code is always valid, so only `encode` can see them."""
    logits = torch.full((1, 20), -torch.inf)
    logits[0, 1:3] = torch.tensor(values)
    with pytest.raises((ValueError, InputError)):
        encode(logits)


@pytest.mark.parametrize(
    ("sharpness", "shift", "divergence"),
    [(1.0, 0.13, 0.12), (3.0, 0.06, 0.15), (6.0, 0.013, 0.07), (12.0, 0.003, 0.02)],
)
def test_soft_labels_of_a_teacher_are_kept(sharpness, shift, divergence):
    """Total variation and Kullback-Leibler divergence in nats, over soft labels as sharp as a teacher's.

    The divergence is that of a perfect student: a class that became impossible costs nothing.
    """
    logits = drawn(20, sharpness, points=20_000)
    exact = logits[:, 1:].double().log_softmax(1)
    found = decode(encode(logits), 20)[:, 1:].double()
    variation = (exact.exp() - found.exp()).abs().sum(1) / 2
    kl = (found.exp() * (found - exact)).sum(1)
    top = exact.amax(1).exp().mean()
    print(
        f"sharpness {sharpness:g}: mean top probability {top:.3f}, total variation {variation.mean():.4f}"
        f" (largest {variation.max():.4f}), divergence {kl.mean():.5f} (largest {kl.max():.4f})"
    )
    assert float(variation.mean()) < shift
    assert float(kl.mean()) < divergence
    assert float(kl.min()) > -1e-6
