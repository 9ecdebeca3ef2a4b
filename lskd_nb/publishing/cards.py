"""Cards: what a corpus, a student and a critic are, with the figures of the run that made them.

Front matter (YAML, in the hub's format) is for its search, the text for people. Nothing is claimed
that the run did not measure: figures come from ``metrics.json`` and ``report.json``, and where
those are missing the card says so. A mini run is named for what it is.
"""

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from pathlib import Path

import pyarrow as pa

from lskd_nb.critic import NONE, UNFILTERED
from lskd_nb.critic.weak_labels import run_warnings
from lskd_nb.publishing.card_facts import RunFacts, acceptability, chosen, filtered
from lskd_nb.publishing.card_texts import (
    CITATION,
    FIELDS,
    HOW_CORPUS,
    HOW_CRITIC,
    HOW_STUDENT,
    IMAGES_MINI,
    LIMITS,
    LIMITS_MINI,
    LOADING,
    NO_CRITIC,
    NO_RECIPE,
    NO_REPORT,
    USE,
    USE_MINI,
)
from lskd_nb.publishing.renderings import look_up
from lskd_nb.publishing.report_text import (
    RAW_IS_KEPT,
    attributes_markdown,
    code,
    composition_markdown,
    contamination_markdown,
    interval,
    repeats_markdown,
    table,
    toxicity_markdown,
)
from lskd_nb.publishing.what_it_took import what_it_took_markdown
from lskd_nb.records import CORPUS, atomic_path

SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
)
FILES = {
    "kept": "data/corpus.parquet",
    "raw": "data/triples.parquet",
    "scores": "data/scores.parquet",
    "regions": "data/regions.parquet",
}
PROBABILITIES = "the critic's probabilities for it"
BENCHMARKS = (  # what a student is measured by: name, task, the place of its figure in metrics.json
    ("VCR Q→A", "vcr", "vcr.{}.q_a"),
    ("VCR QA→R", "vcr", "vcr.{}.qa_r"),
    ("VCR Q→AR", "vcr", "vcr.{}.q_ar"),
    ("pointing right", "vcr", "grounding.{}"),
    ("Sherlock comparison", "sherlock", "sherlock.{}"),
    ("VisualCOMET Acc@50", "visualcomet", "visualcomet.{}"),
    ("A-OKVQA", "aokvqa", "nonlocalized.aokvqa.{}"),
    ("SNLI-VE", "snli_ve", "nonlocalized.snli_ve.{}"),
    ("SNLI-VE with fitted thresholds (not zero-shot)", "snli_ve", "nonlocalized.snli_ve_fitted.{}"),
    ("Visual7W", "visual7w", "nonlocalized.visual7w.{}"),
)


def dataset_card(facts: RunFacts, licence: str = "", images: bool = False):
    """The corpus's card (``huggingface_hub.DatasetCard``).

    ``licence`` is an identifier of the hub, see ``licence_of``; ``images`` go along or not.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    configs = [
        dict(config_name=name, data_files=[dict(split="train", path=path)])
        | ({"default": True} if name == "kept" else {})
        for name, path in FILES.items()
    ]
    data = DatasetCardData(
        license=licence_of(facts, licence),
        language="en",
        pretty_name=_title("corpus", facts),
        task_categories=["visual-question-answering"],
        size_categories=size_category(facts.triples),
        annotations_creators="machine-generated",
        language_creators="machine-generated",
        source_datasets=["original"] if facts.mini else [f"extended|{s}" for s in facts.sources],
        tags=_tags(facts),
        configs=configs,
    )
    counts = (
        f"{facts.triples:,} question, answer and rationale triples"
        f" about pointed regions of {facts.images:,} images"
    )
    report = facts.report
    figures = people = NO_REPORT
    if report is not None:
        told, repeats = composition_markdown(report["kept"]), repeats_markdown(report["repeats"])
        figures = f"{told}\n\n{repeats}"
        told, toxic = _attributes(facts), report["toxicity"]
        people = f"{told}\n\n### Toxicity\n\n{toxicity_markdown(toxic)}"
    sections = {
        "What it is": (
            f"{counts}. Texts mention regions as `[0]`; boxes are given, {_images(facts, images)}"
        ),
        "How it was made": (
            facts.imported
            or HOW_CORPUS.format(teacher=_codes(facts.teachers), filtered=filtered(facts))
            + "\n\n"
            + acceptability(facts)
        ),
        "Fields": (
            table(
                ("field of `kept`", "type", "what it is"),
                [(code(f.name), code(f.type), FIELDS[f.name]) for f in CORPUS],
            )
            + "\n\n`raw` has what the teacher wrote before the filter, `scores`"
            f" {'nothing, as there was no critic' if facts.critic == NONE else PROBABILITIES},"
            " `regions` the images and all their boxes. `corpus.jsonl` is `kept` in the format of"
            " the corpus that the paper's authors released."
        ),
        "Figures": figures,
        **_use(facts),
        "Biases and person attributes": people,
        "Contamination": contamination_markdown(report and report["contamination"]),
    }
    return _card(DatasetCard, data, _title("corpus", facts), sections | _end(facts, licence))


def student_card(facts: RunFacts, name: str, dataset: str | None = None, licence: str = ""):
    """The distilled student's card (``ModelCard``), with the run's figures as model index.

    ``name`` and ``dataset`` are USER/NAME.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    where = "mini world" if facts.mini else "zero-shot"
    results = [
        EvalResult(
            task_type="visual-question-answering",
            dataset_type=f"mini-world-{of}" if facts.mini else of,
            dataset_name=f"{told} ({where})",
            metric_type="accuracy",
            metric_value=round(value["mean"], 4),
            metric_name=f"{told}, 95% interval {value['low']:.3f} to {value['high']:.3f}",
        )
        for told, of, path in BENCHMARKS
        if (value := look_up(facts.metrics, path.format("lskd")))
    ]
    data = _model_data(
        ModelCardData,
        facts,
        name,
        results,
        dataset,
        licence,
        pipeline_tag="visual-question-answering",
    )
    told = facts.parameters.get("05", {})
    rows = [
        (
            name,
            *(
                interval(v) if (v := look_up(facts.metrics, path.format(system))) else "–"
                for system in ("base", "unfiltered", "lskd")
            ),
        )
        for name, _, path in BENCHMARKS
        if look_up(facts.metrics, path.format("lskd"))
    ]
    figures = "Not measured: metrics.json has no evaluation."
    if rows:
        ours = f"**{UNFILTERED}**" if facts.critic == NONE else "**LSKD**"
        figures = table(("%", "base", "unfiltered triples, same number", ours), rows)
        figures += "\n\n95% bootstrap intervals over images."
    how = HOW_STUDENT.format(triples=f"{facts.triples:,}", filtered=chosen(facts))
    sections = {
        "What it is": (
            f"A stage-1 BLIP-2 ({_base(facts)}) that tells how well a text about pointed regions"
            " fits an image whose regions are highlighted."
        ),
        "How it was made": ("\n\n".join(filter(None, (how, facts.imported, _settings(told))))),
        "Beside the published recipe": _recipe(facts, "student"),
        "How to load it": LOADING.format(name=name),
        "Figures": figures,
        **_use(facts),
        "Biases and person attributes": _biases(facts),
        "Contamination": contamination_markdown(facts.report and facts.report["contamination"]),
    }
    return _card(ModelCard, data, _title("student", facts), sections | _end(facts, licence))


def critic_card(facts: RunFacts, name: str, dataset: str | None = None, licence: str = ""):
    """The critic's card (``ModelCard``)."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    measured = facts.metrics.get("critic", {})
    kinds = (
        ("AUC", "roc_auc", "auc"),
        ("precision", "precision", "precision"),
        ("recall", "recall", "recall"),
        ("F1", "f1", "f1"),
    )
    results = [
        EvalResult(
            task_type="text-classification",
            task_name="acceptable or not, about an image",
            dataset_type="labelled-triples",
            dataset_name="held-out labels" + (" (mini world)" if facts.mini else ""),
            metric_type=kind,
            metric_name=told,
            metric_value=round(measured[key], 4),
        )
        for told, kind, key in kinds
        if isfinite(measured.get(key, nan))  # AUC is none where all labels say the same
    ]
    data = _model_data(ModelCardData, facts, name, results, dataset, licence)
    rows = [(told, f"{measured[key]:.3f}") for told, _, key in kinds if key in measured]
    noise = facts.parameters.get("03", {}).get("noise", 0)
    made = HOW_CRITIC.format(labels=f"{measured.get('labels', 0):,.0f}")
    if facts.mini:
        made += f" The labels are the mini world's truth, {noise:.0%} of them wrong on purpose."
    figures = "Not measured: metrics.json has no critic."
    if rows:
        figures = table((f"on {measured.get('held_out', 0):,.0f} held-out labels", ""), rows)
        figures += "\n\n" + acceptability(facts)
    sections = {
        "What it is": (
            f"A stage-1 BLIP-2 ({_base(facts, '03')}) with heads that give the probability that a"
            " triple about pointed regions is acceptable."
        ),
        "How it was made": made + "\n\n" + _settings(facts.parameters.get("03", {})),
        "Beside the published recipe": _recipe(facts, "critic"),
        "How to load it": (
            "`lskd_nb.critic.model.load_critic(FOLDER)`, then `lskd_nb.critic.model.score`; FOLDER"
            " is a download of this repository."
        ),
        "Figures": figures,
        **_use(facts),
        "Biases and person attributes": _biases(facts),
        "Contamination": "Its labels are about triples of the corpus; none about benchmark items.",
    }
    return _card(ModelCard, data, _title("critic", facts), sections | _end(facts, licence))


def write_card(card, folder: str | Path) -> Path:
    """A card as the ``README.md`` of a folder."""
    path = Path(folder) / "README.md"
    with atomic_path(path) as temporary:
        temporary.write_text(str(card), encoding="utf-8")
    return path


def corpus_summary(corpus: pa.Table, facts: Mapping[str, object]) -> str:
    """A few lines about a corpus in Markdown, for who has no card yet."""
    families = corpus["family"].value_counts().to_pylist()
    lines = [
        "# Localized commonsense corpus",
        "",
        (
            f"{corpus.num_rows} question, answer and rationale triples about "
            f"{len(set(corpus['image_id'].to_pylist()))} images."
        ),
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [f"- triples by {code(f['values'])}: {f['counts']}" for f in families]
    limits = NO_CRITIC if UNFILTERED in facts.values() else LIMITS
    return "\n".join([*lines, "", limits[0]]) + "\n"


# ------------------------------------------------------------------------------------ parts of them


def size_category(rows: int) -> str:
    """The hub's word for a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), "100M<n<1B")


def licence_of(facts: RunFacts, licence: str = "") -> str:
    """The licence in the front matter: the one chosen, else BSD-3-Clause for the mini world's
    and "other" (not chosen) for others.
    """
    return licence or ("bsd-3-clause" if facts.mini else "other")


def _card(kind, data, title: str, sections: Mapping[str, str]):
    body = "\n\n".join([f"# {title}", *(f"## {name}\n\n{text}" for name, text in sections.items())])
    return kind(f"---\n{data.to_yaml()}\n---\n\n{body}\n")


def _model_data(
    kind, facts: RunFacts, name: str, results: Sequence, dataset: str | None, licence: str, **more
):
    return kind(
        license=licence_of(facts, licence),
        language="en",
        library_name="transformers",
        base_model=facts.base or None,
        datasets=[dataset] if dataset else None,
        model_name=name.split("/")[-1],
        eval_results=list(results) or None,
        tags=_tags(facts),
        **more,
    )


def _title(what: str, facts: RunFacts) -> str:
    return {
        "corpus": "Localized commonsense knowledge",
        "student": "BLIP-2 student of LSKD",
        "critic": "Critic of LSKD",
    }[what] + (": the mini world, drawn pictures and a rule-based writer" if facts.mini else "")


def _tags(facts: RunFacts) -> list[str]:
    return ["visual-commonsense", "region-grounded", "symbolic-knowledge-distillation", "lskd"] + (
        ["synthetic", "toy"] if facts.mini else []
    )


def _images(facts: RunFacts, included: bool) -> str:
    of = _codes(facts.sources)
    if facts.mini:
        told = IMAGES_MINI
    elif included:
        told = f"images are those of {of}."
    else:
        told = f"images are those of {of}, to be had from their owners."
    return told + (" They are in `images/`." if included else "")


def _base(facts: RunFacts, notebook: str = "05") -> str:
    base = str(facts.parameters.get(notebook, {}).get("base", "a base that is not recorded"))
    return f"from {code(Path(base).name if Path(base).is_absolute() else base)}"


def _codes(names: Sequence[str]) -> str:
    return ", ".join(code(name) for name in names)


def _settings(parameters: Mapping) -> str:
    told = [
        (code(k), v)
        for k, v in parameters.items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    ]
    return table(("parameter", "value"), told) if told else "Its parameters are not recorded."


def _recipe(facts: RunFacts, part: str) -> str:
    """What of a training is as published and what differs, from the record that lies beside the
    "student" or the "critic"; what that does not tell is left out.
    """
    from lskd_nb.critic import published as of_critic
    from lskd_nb.training import published as of_student

    told = dict(facts.trained.get(part, {}))
    if not told:
        return NO_RECIPE
    base = str(told.get("student", "not recorded"))
    told["student"] = Path(base).name if Path(base).is_absolute() else base
    head = str(facts.metrics.get("lm_head", ""))
    if part == "student":
        numbers, found = of_student.NUMBERS, of_student.differences(told, head)
    else:
        numbers, found = of_critic.NUMBERS, of_critic.differences(told)
    rows = [
        (what, "as published", code(say(value)), "")
        for name, (what, value, say) in numbers.items()
        if name in told and told[name] == value
    ]
    first, *others = found  # the base: whether it is the published one its name does not tell
    rows.append((first.what, "", code(first.published), code(first.here)))
    rows += [(d.what, "**differs**", code(d.published), code(d.here)) for d in others]
    return table(("", "", "published", "here"), rows)


def _use(facts: RunFacts) -> dict[str, str]:
    weak = [f"Weak labels, notebook {line}." for line in run_warnings(facts.metrics)]
    usual = NO_CRITIC if facts.critic == NONE else LIMITS
    limits = (*weak, *(LIMITS_MINI if facts.mini else ()), *usual)
    return {
        "Intended use": USE_MINI if facts.mini else USE,
        "Limitations": "\n".join(f"- {line}" for line in limits),
    }


def _biases(facts: RunFacts) -> str:
    told = "Not measured on its outputs. What it learned from speaks of people as follows.\n\n"
    return told + (_attributes(facts) if facts.report else NO_REPORT)


def _attributes(facts: RunFacts) -> str:
    """How texts speak of people; of an imported corpus the filter is not known."""
    told = attributes_markdown(facts.report["raw_and_kept"])
    return f"{told}\n\n{RAW_IS_KEPT}" if facts.imported else told


def _end(facts: RunFacts, licence: str) -> dict[str, str]:
    chosen = licence_of(facts, licence)
    if chosen != "other":
        text = f"`{chosen}`."
    else:
        text = "**Not chosen.** Whoever publishes this has to choose one."
    if not facts.mini:
        text += (
            f" Texts were written by {_codes(facts.teachers)}, whose provider's terms may limit"
            f" what they are used for; regions come from {_codes(facts.sources)}, which have"
            " licences of their own."
        )
    took = what_it_took_markdown(facts.used)
    return {"What it took": took, "Licence": text, "Citation": CITATION}
