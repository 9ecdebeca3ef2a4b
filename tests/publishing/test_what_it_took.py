"""What a run has used, by stage, as the cards tell it."""

from lskd_nb.publishing.what_it_took import NOTE, what_it_took, what_it_took_markdown

NOTEBOOKS = {
    "05_distillation": dict(seconds=7200.0, cpu_seconds=3600.0, peak_gib=9.25, gpu_hours=7.5)
    | dict(gpu_peak_gib=19.3),
    "02_prompting": dict(seconds=1800.0, cpu_seconds=900.0, peak_gib=1.0),
    "06_evaluation": dict(status="failed"),
}
METRICS = {"teacher": {"tokens": [1_500_000, 240_000], "usd": 12.5}}


def test_hours_memory_tokens_and_dollars_stand_by_stage():
    first, second, third = what_it_took(NOTEBOOKS, METRICS)
    assert (first["notebook"], first["hours"], first["tokens"]) == (
        "02_prompting",
        0.5,
        [1_500_000, 240_000],
    )
    assert first["gpu_hours"] is None and second["gpu_hours"] == 7.5 and second["usd"] is None
    assert third["hours"] is None
    told = what_it_took_markdown([first, second, third])
    assert (
        "| 02 prompting | 0.50 | 0.25 | – | 1.0 GiB | – | 1,500,000 in, 240,000 out | 12.50 |"
        in told
    )
    assert "| 05 distillation | 2.00 | 1.00 | 7.50 | 9.2 GiB | 19.3 GiB | – | – |" in told
    assert "06" not in told and told.endswith(NOTE)


def test_an_older_run_tells_less_and_none_says_so():
    (row,) = what_it_took({"02_prompting": dict(seconds=36.0)}, {})
    assert "| 02 prompting | 0.01 | – | – | – | – | – | – |" in what_it_took_markdown([row])
    assert what_it_took_markdown([]).startswith("Not known")
