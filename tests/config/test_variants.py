"""Variants: the keys that they take from their origin, and the keys that they drop."""

import pytest

from elite_pipeline.config.variants import spelt_out

LORA = {"method": "lora", "rank": 8, "alpha": 8, "targets": ["qkv"]}
TUNED = {
    "encoder": "sam_tiny",
    "upscaler": 64,
    "peft": LORA,
    "tune_teacher": {"steps": 9, "batch": 4, "seed": 1},
    "cache_teacher": {"targets": ["logits"], "batch": 4},
}


def variant(section, origin, **changes):
    """Returns the completed variant of `origin` with `changes`, two entries of a section."""
    found = spelt_out({section: {"origin": origin, "variant": {"of": "origin", **changes}}})[section]
    assert found["origin"] == origin, "the origin does not change"
    return found["variant"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, TUNED),
        ({"upscaler": 48}, TUNED | {"upscaler": 48}),
        ({"images": "worlds"}, TUNED | {"images": "worlds"}),
        ({"tune_teacher": {"batch": 2}}, TUNED | {"tune_teacher": {"steps": 9, "batch": 2, "seed": 1}}),
        ({"peft": {"rank": 4}}, TUNED | {"peft": LORA | {"rank": 4}}),
        ({"peft": {"method": "none"}}, TUNED | {"peft": {"method": "none"}}),
        (
            {"peft": {"method": "adalora", "initial_rank": 12}},
            TUNED | {"peft": LORA | {"method": "adalora", "initial_rank": 12}},
        ),
        (
            {"tune_teacher": {"steps": 0}, "cache_teacher": {"targets": ["features"]}},
            {
                "encoder": "sam_tiny",
                "tune_teacher": {"steps": 0},
                "cache_teacher": {"targets": ["features"], "batch": 4},
            },
        ),
    ],
)
def test_a_teacher_takes_the_keys_that_are_still_used(changes, expected):
    assert variant("teachers", TUNED, **changes) == expected


def test_a_lora_variant_of_adalora_drops_the_keys_of_adalora():
    origin = TUNED | {"peft": LORA | {"method": "adalora", "initial_rank": 12, "orthogonality": 0.1}}
    assert variant("teachers", origin, peft={"method": "lora"})["peft"] == LORA


@pytest.mark.parametrize(
    ("origin", "changes", "expected"),
    [
        ({"epochs": 8, "batch": 2}, {"steps": 5}, {"steps": 5, "batch": 2}),
        ({"steps": 8, "batch": 2}, {"epochs": 5}, {"epochs": 5, "batch": 2}),
        ({"epochs": 8, "batch": 2}, {"batch": 3}, {"epochs": 8, "batch": 3}),
        ({"epochs": 8}, {"steps": None}, {"epochs": 8, "steps": None}),
        ({"epochs": 8}, {"steps": 5, "epochs": 3}, {"steps": 5, "epochs": 3}),
    ],
)
def test_the_length_of_the_variant_wins(origin, changes, expected):
    """The last two cases are not corrected: `steps: None` states nothing, and two lengths are refused later."""
    found = variant("students", {"train_student": origin}, train_student=changes)
    assert found == {"train_student": expected}
    assert variant("pretrainings", {"pretrain_student": origin}, pretrain_student=changes) == {
        "pretrain_student": expected
    }


def test_variants_of_variants_are_completed():
    students = {"c": {"of": "b", "x": {"c": 3}}, "b": {"of": "a", "x": {"b": 2}}, "a": {"x": {"a": 1, "b": 1, "c": 1}}}
    assert spelt_out({"students": students})["students"]["c"] == {"x": {"a": 1, "b": 2, "c": 3}}


def test_variants_of_data_sets_replace_whole_sections_and_keep_of():
    origin = {"format": "f", "label_images": {"labeller": "regions", "regions": {}}, "labelled": 1.0}
    found = variant("datasets", origin, label_images={"labeller": "sparse"})
    assert found == origin | {"of": "origin", "label_images": {"labeller": "sparse"}}


@pytest.mark.parametrize("values", [None, [], {"teachers": None, "datasets": []}, {"students": {"a": None, "b": 3}}])
def test_values_that_are_not_sections_are_left_to_the_validation(values):
    assert spelt_out(values) == values
