"""What is said of the published recipe: the a100 profile is it, and what differs is told."""

import json
from dataclasses import asdict, replace

import pytest

from lskd_nb.run_folder import find_root
from lskd_nb.runner.parameters import profile_parameters, read_notebook
from lskd_nb.training.distillation import DistillationConfig
from lskd_nb.training.published import ALWAYS, NUMBERS, differences, other_lm

ROOT = find_root()
DEFAULT = DistillationConfig("base", "corpus", "images", "out", steps=50_000)


def profile_config(profile: str) -> DistillationConfig:
    """The recipe that notebook 05 makes of a profile's parameters."""
    notebook = read_notebook(ROOT / "notebooks" / "05_distillation.ipynb")
    told = dict(notebook.defaults) | profile_parameters(ROOT, profile, notebook)
    fields = {k: v for k, v in told.items() if k in DistillationConfig.__dataclass_fields__}
    return replace(DEFAULT, **fields, student=str(told["base"]))


def test_the_a100_profile_is_the_published_recipe_but_for_its_arithmetic():
    config = profile_config("a100")
    told = differences(config, "loaded")
    assert [d.what for d in told[: -len(ALWAYS)]] == ["begins with", "arithmetic"]
    assert told[0].here == "models/blip2-vit-g, its LM head with it"
    assert config.batch == 256 and config.checkpoint_every >= 1000 and config.workers > 0


def test_every_number_that_differs_is_told_with_both_values():
    told = {d.what: (d.published, d.here) for d in differences(profile_config("mini"))}
    assert told["AdamW's second beta"] == ("0.999", "0.98")
    assert told["gradients clipped to the norm"] == ("not", "1")
    assert told["before each question"] == ("'question: '", "nothing")
    assert told["pixels of the square image"] == ("480", "the base's")
    assert told["rows of a step, on all GPUs together"] == ("256", "64")
    assert told["shuffles of a triple's regions"] == ("ever new", "2 fixed")
    for field, (what, value, _) in NUMBERS.items():
        other = (not value) if isinstance(value, bool) else (f"{value}x" if isinstance(
            value, str) else value + 1)  # fmt: skip
        published = replace(DEFAULT, **{f: v for f, (_, v, _) in NUMBERS.items()})
        assert what not in {d.what for d in differences(published)}
        assert what in {d.what for d in differences(replace(published, **{field: other}))}


def test_parts_of_a_batch_make_itc_compare_fewer_rows():
    told = {d.what: d.here for d in differences(replace(DEFAULT, batch=256, accumulation=4))}
    assert told["rows that ITC compares"] == "64, a part of a step"


def test_a_record_of_an_older_version_is_read_as_far_as_it_tells():
    told = json.loads(json.dumps({"student": "org/base", "steps": 3, "lr": 0.1}))
    assert [d.what for d in differences(told)[: -len(ALWAYS)]] == [
        "begins with",
        "steps",
        "learning rate",
    ]
    assert differences(told, "fresh")[0].here == "org/base, its LM head at random"
    assert differences(json.loads(json.dumps(asdict(DEFAULT)))) == differences(DEFAULT)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((0.0, 0.5), {"published_lm": {"lm": 0.5, "lm_conditioned": 0.0}}),
        ((1.0, 0.0), {"conditioned_lm": {"lm": 0.0, "lm_conditioned": 1.0}}),
        ((1.0, 0.5), {"published_lm": {"lm": 1.0, "lm_conditioned": 0.0}}),
        ((0.0, 0.0), {}),
    ],
)
def test_the_other_lm_loss_is_called_what_it_is(weights, expected):
    lm, conditioned = weights
    assert other_lm(replace(DEFAULT, lm=lm, lm_conditioned=conditioned)) == expected
