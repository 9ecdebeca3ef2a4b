"""Cards: read back by huggingface_hub, with the run's own figures, and named for what the run
was.
"""

import json
import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from lskd_nb.publishing import card_facts, cards, report
from lskd_nb.publishing.hub import check_ready
from lskd_nb.publishing.run_report import report_of
from lskd_nb.records import CORPUS, TRIPLES, read_parquet, write_parquet
from lskd_nb.run_folder import RunError


@pytest.fixture
def facts(finished_run):
    return card_facts.run_facts(finished_run)


def test_a_dataset_card_is_read_back(facts, finished_run, tmp_path):
    facts = replace(facts, report=report.report_run(finished_run))
    card = DatasetCard.load(cards.write_card(cards.dataset_card(facts), tmp_path / "card"))
    data = card.data.to_dict()
    assert (
        data["license"] == "bsd-3-clause"
        and data["language"] == "en"
        and data["size_categories"] == "n<1K"
    )
    assert (
        data["task_categories"] == ["visual-question-answering"]
        and data["source_datasets"] == ["original"]
        and "toy" in data["tags"]
    )
    assert [(c["config_name"], c["data_files"][0]["path"]) for c in data["configs"]] == list(
        cards.FILES.items()
    )
    assert (
        "4 question, answer and rationale triples about pointed regions of 4 images" in card.text
        and "rule-based writer" in card.text
    )
    assert (
        "4 of 6 were kept, those of a probability of at least 0.200" in card.text
        and "So 50 in 100 triples are not acceptable." in card.text
    )
    for section in (
        "What it is",
        "How it was made",
        "Fields",
        "Figures",
        "Intended use",
        "Limitations",
        "Biases and person attributes",
        "Contamination",
        "Licence",
        "Citation",
    ):
        assert f"\n## {section}\n" in card.text, section
    assert all(f"| `{name}` |" in card.text for name in CORPUS.names)
    assert (
        "2312.04837" in card.text
        and "Not measured: no benchmark was given." in card.text
        and "Not measured: no classifier was named." in card.text
    )
    assert "| 100.0% |" in card.text  # of the description family's question, described


def test_a_student_s_card_has_the_run_s_figures(facts, tmp_path):
    path = cards.write_card(cards.student_card(facts, "me/student", "me/data"), tmp_path)
    card = ModelCard.load(path)
    assert (
        card.data.model_name == "student"
        and card.data.base_model == "org/base"
        and card.data.datasets == ["me/data"]
    )
    found = {r.metric_name.split(",")[0]: r for r in card.data.eval_results}
    assert found.keys() == {"VCR Q→A", "VCR QA→R", "VCR Q→AR", "pointing right", "A-OKVQA"}
    assert (
        found["VCR Q→AR"].metric_value == 0.5
        and "0.400 to 0.600" in found["VCR Q→AR"].metric_name
        and "mini world" in found["A-OKVQA"].dataset_name
    )
    front = yaml.safe_load(path.read_text().split("---")[1])
    assert (
        front["model-index"][0]["results"] and front["pipeline_tag"] == "visual-question-answering"
    )
    assert (
        "| VCR Q→AR | 50.0 [40.0, 60.0] | 50.0 [40.0, 60.0] | 50.0 [40.0, 60.0] |" in card.text
        and "VisualCOMET" not in card.text
    )
    assert "Not for any use on photographs" in card.text and "| `steps` | 3 |" in card.text


def test_model_cards_tell_what_is_as_published_and_what_differs(finished_run):
    told = dict(student="/models/base", lr=1e-5, beta2=0.98, clip_norm=1.0, weight_decay=0.05)
    (finished_run / "student/lskd/trained_from.json").write_text(
        json.dumps(told | dict(prefix="", batch=64, steps=50_000))
    )
    (finished_run / "critic/trained_from.json").write_text(json.dumps(told | dict(head_hidden=768)))
    metrics = json.loads((finished_run / "metrics.json").read_text()) | dict(lm_head="fresh")
    (finished_run / "metrics.json").write_text(json.dumps(metrics))
    facts = card_facts.run_facts(finished_run)
    student, critic = (
        str(of(facts, "me/x")).split("## Beside the published recipe")[1].split("\n## ")[0]
        for of in (cards.student_card, cards.critic_card)
    )
    assert "| before each question | **differs** | `'question: '` | `nothing` |" in student
    assert "| rows of a step, on all GPUs together | **differs** | `256` | `64` |" in student
    assert "| steps | as published | `50,000` |" in student
    assert "| `base, its LM head at random` |" in student and "/models" not in student
    for table in (student, critic):
        assert "| AdamW's second beta | **differs** | `0.999` | `0.98` |" in table
        assert "| gradients clipped to the norm | **differs** | `not` | `1` |" in table
        assert "| weight decay | as published | `0.05` |" in table
        assert "arithmetic" not in table  # what the record does not tell
    assert "| hidden layer of the two score heads | as published | `768 wide, ReLU` |" in critic
    (finished_run / "critic/trained_from.json").unlink()
    bare = str(cards.critic_card(card_facts.run_facts(finished_run), "me/c"))
    assert "No record of the training lies beside the weights" in bare


def test_a_critic_s_card(facts, tmp_path):
    card = ModelCard.load(
        cards.write_card(cards.critic_card(facts, "me/critic", "me/data"), tmp_path)
    )
    assert {r.metric_type: r.metric_value for r in card.data.eval_results} == dict(
        roc_auc=0.8, precision=0.7, recall=0.6, f1=0.65
    )
    assert "on 2 held-out labels" in card.text and "5% of them wrong on purpose" in card.text


def test_what_was_not_measured_is_not_claimed(facts, tmp_path):
    bare = replace(facts, metrics={})
    text = str(cards.dataset_card(bare)) + str(cards.critic_card(bare, "me/c"))
    student = cards.student_card(bare, "me/s")
    assert student.data.eval_results is None and "metrics.json has no evaluation" in str(student)
    assert (
        "How many of the triples are acceptable was not measured." in text
        and "metrics.json has no critic" in text
        and "the run has no report" in text
    )


def test_a_run_on_photographs_is_another_matter(facts):
    real = replace(
        facts, teachers=("gpt-3.5-turbo",), sources=("vcr", "visual_genome"), triples=1_000_000
    )
    card = cards.dataset_card(real)
    assert (
        card.data.license == "other"
        and "**Not chosen.**" in str(card)
        and card.data.size_categories == "1M<n<10M"
    )
    assert (
        card.data.source_datasets == ["extended|vcr", "extended|visual_genome"]
        and "mini" not in str(card)
        and "toy" not in card.data.tags
    )
    assert cards.dataset_card(
        real, "cc-by-4.0"
    ).data.license == "cc-by-4.0" and "`cc-by-4.0`" in str(cards.dataset_card(real, "cc-by-4.0"))
    assert "to be had from their owners" in str(card) and "They are in `images/`" in str(
        cards.dataset_card(real, images=True)
    )


def test_a_base_is_named_when_it_is_on_the_hub(finished_run):
    assert (
        cards.critic_card(card_facts.run_facts(finished_run), "me/c").data.base_model == "org/base"
    )
    origin = finished_run / "student/lskd/trained_from.json"
    origin.write_text(
        origin.read_text().replace("org/base", "/models/base")
    )  # a folder of this machine
    card = cards.student_card(card_facts.run_facts(finished_run), "me/s")
    assert card.data.base_model is None and "/models/base" not in str(card)


def test_a_run_that_is_not_finished_is_named(finished_run):
    (finished_run / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match="metrics.json: not valid JSON"):
        card_facts.run_facts(finished_run)
    (finished_run / "metrics.json").unlink()
    with pytest.raises(
        FileNotFoundError, match="metrics.json is not there: the run is not finished"
    ):
        card_facts.run_facts(finished_run)


@pytest.mark.parametrize(
    "told, message",
    [
        ("{}", "manifest.json: `notebooks` is None, expected an object"),
        ("[]", "manifest.json holds a list, expected an object"),
        (
            '{"notebooks": {"01_x": null}}',
            "manifest.json: notebook '01_x' is None, expected an object",
        ),
        (
            '{"notebooks": {"01_x": {"parameters": 3}}}',
            "notebook '01_x' is {'parameters': 3}, expected",
        ),
        ("[" * 99999, "manifest.json: not valid JSON"),
    ],
)
def test_what_is_no_manifest_is_named(finished_run, tmp_path, told, message):
    (finished_run / "manifest.json").write_text(told)
    for use in (card_facts.run_facts, lambda run: report_of(run, tmp_path)):
        with pytest.raises(ValueError, match=message):
            use(finished_run)
    with pytest.raises(RunError, match=message):
        check_ready(finished_run, {"critic": "me/c"})


def test_a_report_of_another_corpus_is_not_on_the_card(finished_run):
    report.write_report(report.report_run(finished_run), finished_run)
    assert card_facts.run_facts(finished_run).report["kept"]["triples"] == 4
    for path in (finished_run / "triples.parquet", finished_run / "corpus.parquet"):
        whole = path.read_bytes()
        schema = CORPUS if path.stem == "corpus" else TRIPLES
        write_parquet(read_parquet(path, schema).slice(1), path, schema)
        assert card_facts.run_facts(finished_run).report is None
        path.write_bytes(whole)
        assert card_facts.run_facts(finished_run).report is not None
    for text in ("{", "[]", "{}"):
        (finished_run / "report.json").write_text(text)
        assert card_facts.run_facts(finished_run).report is None


def test_names_are_shown_as_code_and_never_as_markup(finished_run):
    name = "<script>x</script>|`b`"
    shown = "`<script>x</script>¦'b'`"
    for file, schema in (("corpus.parquet", CORPUS), ("triples.parquet", TRIPLES)):
        rows = read_parquet(finished_run / file, schema).to_pylist()
        write_parquet(
            [r | dict(family=name, model=name, source=name) for r in rows],
            finished_run / file,
            schema,
        )
    facts = card_facts.run_facts(finished_run)
    facts = replace(
        facts,
        report=report.report_run(finished_run),
        parameters=facts.parameters | {"05": {"base": name}},
    )
    texts = [
        cards.dataset_card(facts).text,
        cards.student_card(facts, "me/s").text,
        cards.critic_card(facts, "me/c").text,
        cards.corpus_summary(read_parquet(finished_run / "corpus.parquet", CORPUS), {}),
    ]
    for text in texts:
        assert shown in text and "<" not in re.sub(r"`[^`]*`", "", text)


def test_the_short_card_of_a_notebook(finished_run):
    text = cards.corpus_summary(
        read_parquet(finished_run / "corpus.parquet", CORPUS), {"share kept": "20%"}
    )
    assert (
        "4 question, answer and rationale triples about 4 images." in text
        and "- share kept: 20%" in text
        and "- triples by `description`: 2" in text
    )


def test_every_field_is_explained():
    from lskd_nb.publishing.card_texts import FIELDS

    assert list(FIELDS) == CORPUS.names


def test_a_report_says_what_it_could_not_compare(finished_run, tmp_path):
    left_out: dict[str, str] = {}
    report_of(finished_run, tmp_path, left_out=left_out)
    assert set(left_out) >= {"vcr", "snli_ve"} and "is not there" in left_out["vcr"]
