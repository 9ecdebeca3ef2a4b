"""What a run will take, said before anything is spent, by rates that were measured."""

import json

import pytest

from lskd_nb.runner.expected import expected, read_rates
from lskd_nb.runner.parameters import profile_parameters, read_notebooks

ROWS = [
    dict(what="machine", device="NVIDIA X", date="2026-01-01"),
    dict(what="encoding 64 images, bf16", images_per_second=100.0),
    dict(what="04: critic, 64 images with 6 triples each, bf16", samples_per_second=1000.0),
    dict(what="05: a training step of 64, ITC + ITM + LM, bf16", samples_per_second=128.0)
    | dict(peak_gib=19.4),
    dict(what="05: a training step of 64, ITC + ITM + LM, float32", samples_per_second=16.0),
]


@pytest.fixture
def given(root):
    return {
        n.number: {**n.defaults, **profile_parameters(root, "a100", n)}
        for n in read_notebooks(root)
    }


@pytest.fixture
def measured(tmp_path):
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "gpu.json").write_text(json.dumps(ROWS))
    return tmp_path


def told(given, root, gpus=0) -> dict[str, str]:
    return {f.subject: f.detail for f in expected(given, root, gpus)}


def test_the_papers_plan_in_numbers(given, measured):
    """169,000 images, some five million raw triples, batch 256 for 50,000 steps."""
    found = told(given, measured, gpus=4)
    assert "about 1,521,693 requests, 4,565,079 raw triples: 169,077 images" in found["02 takes"]
    assert "about 1,023 USD by a rule" in found["02 takes"]
    trainings = 2 + 0.1**0.5 + 0.01**0.5 + 0.01**0.5  # two, two smaller sizes, the other LM loss
    hours = trainings * 50_000 * 256 / 128 / 3600
    assert f"about {hours:,.1f} GPU hours, {hours / 4:,.1f} hours on 4 such" in found["05 takes"]
    assert "19 GiB for 64 rows a GPU" in found["05 takes"]
    assert "4,565,079 triples at 1,000 a second" in found["04 takes"]
    assert found["expected"].endswith("one NVIDIA X, outputs/gpu.json, 2026-01-01")
    slow = given | {"05": given["05"] | dict(bf16=False)}
    assert f"about {8 * hours:,.1f} GPU hours" in told(slow, measured)["05 takes"]


def test_the_recorded_rates_can_be_read(root):
    rates = read_rates(root)
    assert rates.a_second["encoding 64 images, bf16"] > 50 and "H200" in rates.source


def test_without_rates_or_with_small_models_no_hour_is_made_up(given, tmp_path, root):
    assert "hours are not known" in told(given, tmp_path)["expected"]
    mini = {
        n.number: {**n.defaults, **profile_parameters(root, "mini", n)}
        for n in read_notebooks(root)
    }
    assert told(mini, root) == {}
