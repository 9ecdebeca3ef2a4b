"""The corpus report: counted by hand on small corpora, pictures told apart, and nothing of a
corpus taken for markup.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lskd_nb import sources
from lskd_nb.corpus import dedup, person_attributes
from lskd_nb.publishing import contamination, report_text, toxicity
from lskd_nb.publishing import report as reporting
from lskd_nb.records import CORPUS, TRIPLES, write_parquet
from lskd_nb.regions import LocatedImage
from lskd_nb.sources import MultipleChoice

PHOTOGRAPH = next((Path(sources.__file__).parent / "photograph").glob("*.jp*g"))


def row(
    number: int,
    question: str,
    answer: str = "To rest.",
    rationale: str = "[0] is tired.",
    image: str = "m",
    family: str = "id",
    **more,
) -> dict:
    return (
        dict(
            triple_id=f"t{number}",
            image_id=image,
            family=family,
            question=question,
            answer=answer,
            rationale=rationale,
            regions=[0],
            regions_offered=[0, 1],
            model="w",
            prompt="p",
            request="r",
            score=0.5,
            image=f"VG_100K/{image}.jpg",
            width=200,
            height=100,
            source="visual_genome",
            split="train",
            references=[
                dict(id=0, box=[0, 0, 20, 20], label="dog", score=None),
                dict(id=1, box=[0, 0, 200, 100], label="sofa", score=None),
            ],
        )
        | more
    )


@pytest.fixture
def written(tmp_path):
    """Write rows as a run's corpus, and as its raw triples (those of ``raw`` too)."""

    def write(rows: list[dict], raw: list[dict] = ()) -> Path:
        write_parquet(rows, tmp_path / "corpus.parquet", CORPUS)
        write_parquet(
            [{k: r[k] for k in TRIPLES.names} for r in (*rows, *raw)],
            tmp_path / "triples.parquet",
            TRIPLES,
        )
        return tmp_path

    return write


def item(
    number: int,
    path: str,
    question: str = "Who is [0]?",
    choices: tuple = ("A cook.", "A singer."),
    label: int | None = 0,
) -> MultipleChoice:
    return MultipleChoice(
        f"i{number}",
        LocatedImage(path, path, 200, 100, (), "s", "val"),
        question,
        choices,
        label,
        "vcr.q_a",
        "who",
    )


# -------------------------------------------------------------------------------------- composition


def test_composition_counts_what_is_there(written):
    folder = written(
        [
            row(0, "Why is [0] here?"),
            row(1, "why does [1] look at [0]?", regions=[1, 0]),
            row(2, "[0] looks up. Why?", family="description"),
            row(
                3,
                "What is the dog on the sofa [0] doing?",
                rationale="The dog [0] sees [1].",
                image="n",
                family="description",
                regions=[0, 1],
                references=[dict(id=0, box=[0, 0, 100, 100], label="dog", score=None)],
            ),
        ]
    )
    made_of = reporting.composition(folder / "corpus.parquet")
    assert made_of["triples"] == 4 and made_of["images"] == 2
    assert [(t["value"], t["count"]) for t in made_of["question_types"]] == [
        ("why", 2),
        ("looks", 1),
        ("what", 1),
    ]
    assert ("why is", 1) in [(o["value"], o["count"]) for o in made_of["openings"]]
    assert [(r["value"], r["count"]) for r in made_of["regions_per_triple"]] == [(1, 2), (2, 2)]
    sizes = made_of["region_sizes"]  # 20 × 20 three times, all of 200 × 100 once, 100 × 100 once
    assert (sizes["mentioned"], sizes["small"], sizes["medium"], sizes["large"]) == (5, 3, 0, 2)
    assert {b["up_to"]: b["count"] for b in sizes["histogram"] if b["count"]} == {
        0.02: 3,
        0.5: 1,
        1.0: 1,
    }
    assert made_of["lengths"]["question"]["max"] == 9 and made_of["lengths"]["answer"]["mean"] == 2
    assert sum(h["count"] for h in made_of["lengths"]["rationale"]["histogram"]) == 4
    assert reporting.composition(folder / "triples.parquet")["region_sizes"] is None


@pytest.mark.parametrize(
    "text, described",
    [
        ("Why is [0] here?", 0),
        ("the dog looks at [0]", 0),
        ("the dog and [1]", 0),
        ("the reason for what [0] does", 0),
        ("[0] and [1] wait", 0),
        ("the dog [0]", 1),
        ("Is the woman with the red umbrella [2] late?", 1),
        ("a man's hat [0, 1] and his dog [2]", 2),
        ("the mat. [1] sits", 0),
        ("The dog on the mat [1] looks at the half-eaten cake [2] of [0]", 2),
    ],
)
def test_a_mention_is_described_or_alone(written, text, described):
    folder = written([row(0, text, answer="Yes.", rationale="So it is.")])
    (pointing,) = reporting.composition(folder / "corpus.parquet")["pointing"]
    assert pointing["described"] == described and pointing["mentions"] == text.count("[")


def test_sizes_that_a_release_does_not_tell_are_left_out(written):
    folder = written([row(0, "Why is [0] here?", width=None, height=None)])
    sizes = reporting.composition(folder / "corpus.parquet")["region_sizes"]
    assert sizes["small"] == 1 and sizes["share_known"] == 0 and sizes["median_share"] is None
    assert "sizes of the images are unknown" in report_text.composition_markdown(
        reporting.composition(folder / "corpus.parquet")
    )


def test_sizes_that_are_none_and_very_large_ones(written, tmp_path):
    nan, whole = float("nan"), dict(id=0, box=[0, 0, 60000, 60000], label="", score=None)
    folder = written(
        [
            row(0, "Why is [0] here?", width=0, height=0),
            row(1, "Why is [0] here?", width=60000, height=60000, references=[whole]),
            row(
                2,
                "Why is [0] here?",
                references=[dict(id=0, box=[nan, 0, 1, 1], label="", score=None)],
            ),
        ]
    )
    sizes = reporting.composition(folder / "corpus.parquet")["region_sizes"]
    assert (
        sizes["mentioned"],
        sizes["unmeasured"],
        sizes["share_known"],
        sizes["median_share"],
    ) == (2, 1, 1, 1.0)
    assert (sizes["small"], sizes["large"]) == (1, 1)
    text = reporting.write_report(reporting.report_run(folder), tmp_path / "out")[1].read_text()
    assert "1 more have boxes that are no numbers." in text


def test_missing_texts_are_no_wordings(written, tmp_path):
    folder = written(
        [
            row(0, None, rationale=None),
            row(1, "Why?", answer=None, rationale=None),
            row(2, "why?", answer=None, rationale=None),
        ]
    )
    assert dedup.distinct_texts(folder / "corpus.parquet") == [
        ("to rest.", 1, "t0"),
        ("why?", 2, "t1"),
    ]
    report = reporting.report_run(folder, tmp_path, {"set": ([item(0, "x.jpg")], tmp_path)})
    assert (
        reporting.write_report(report, tmp_path / "out")[0].exists()
        and report["repeats"]["exact"]["distinct"] == 2
    )


def test_a_picture_that_pillow_refuses_is_unreadable(tmp_path, monkeypatch):
    for name, side in (("small.png", 10), ("large.png", 40)):
        Image.new("RGB", (side, side)).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes((tmp_path / "small.png").read_bytes()[:40])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    hashes, read, unreadable = contamination.picture_hashes(
        tmp_path, ["small.png", "large.png", "bad.png"]
    )
    assert (
        read == ["small.png"] and unreadable == ["large.png", "bad.png"] and hashes.shape == (1, 4)
    )


def test_what_is_no_corpus_is_named(written, tmp_path):
    with pytest.raises(FileNotFoundError, match="corpus.parquet is not there"):
        reporting.report_run(tmp_path / "nowhere")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="x.parquet is not a readable Parquet file"):
        reporting.composition(tmp_path / "x.parquet")
    folder = written([row(0, "Why?")])
    write_parquet([], folder / "triples.parquet", TRIPLES)
    with pytest.raises(ValueError, match="'t0', which .*triples.parquet lacks"):
        reporting.report_run(folder)


# ----------------------------------------------------------------------------------------- wordings


LONG = (
    "the man in the long grey coat waits on the platform because the train to the coast has not"
    " come yet and it is getting late"
)


def test_exact_repeats_are_ids_case_and_spaces_aside(written):
    folder = written(
        [
            row(0, "Why is [0] here?"),
            row(1, "why is  [12] HERE?"),
            row(2, "Why is [0, 1] here?"),
            row(3, "Why is [0] there?"),
        ]
    )
    exact = dedup.duplicates(folder / "corpus.parquet")["exact"]
    assert (exact["triples"], exact["distinct"], exact["share"]) == (4, 2, 0.5)
    assert exact["examples"] == [
        dict(wording="why is [] here? to rest. [] is tired.", times=3, first="t0")
    ]


def test_near_wordings_have_the_similarity_that_is_said():
    texts = [
        LONG,
        "nothing of the kind is said here at all by anybody",
        LONG.replace("grey", "brown"),
        LONG.replace("coast", "city").replace("grey", "red"),
        LONG.replace("grey coat waits", "hat sings")
        .replace("late", "dark")
        .replace("train", "ship")
        .replace("come", "gone")
        .replace("platform", "pier"),
    ]
    similar = [dedup.jaccard(dedup.word_pairs(LONG), dedup.word_pairs(t)) for t in texts]
    assert [s >= 0.7 for s in similar] == [True, False, True, True, False]
    assert dedup.near_duplicate_clusters(texts, 0.7) == [[0, 2, 3]]
    assert dedup.near_duplicate_clusters(texts, 0.99) == []
    with pytest.raises(ValueError, match="threshold is 7"):
        dedup.near_duplicate_clusters(texts, 7)


@pytest.mark.parametrize("changes, similarity, found", [(1, 37 / 41, 297), (3, 33 / 45, 270)])
def test_few_near_wordings_are_missed(changes, similarity, found):
    """300 texts of 40 words, and the same with some words changed; 0.7 is the threshold."""
    rng = np.random.default_rng(0)
    first = [[f"w{i}" for i in rng.integers(2000, size=40)] for _ in range(300)]
    changed = [
        ["another" if i in range(5, 5 + 6 * changes, 6) else word for i, word in enumerate(text)]
        for text in first
    ]
    pairs = [dedup.word_pairs(" ".join(t)) for t in (first[0], changed[0])]
    assert dedup.jaccard(*pairs) == pytest.approx(similarity, abs=0.01)
    clusters = {
        tuple(c) for c in dedup.near_duplicate_clusters([" ".join(t) for t in first + changed])
    }
    assert clusters <= {(i, i + 300) for i in range(300)} and len(clusters) >= found


def test_repeats_count_clusters_of_distinct_wordings(written):
    folder = written(
        [
            row(n, t, "Yes.", "So.")
            for n, t in enumerate([LONG, LONG, LONG.replace("grey", "brown"), "who?"])
        ]
    )
    near = dedup.duplicates(folder / "corpus.parquet")["near"]
    assert (near["clusters"], near["wordings"], near["left"], near["largest"]) == (1, 1, 2, 2)
    assert near["examples"][0]["other_triple"] == "t2" and 0.7 <= near["examples"][0]["jaccard"] < 1


# -------------------------------------------------------------------------------- person attributes


def test_attributes_are_whole_words():
    told = person_attributes.read_attributes()
    assert {
        "feminine",
        "masculine",
        "age",
        "body",
        "skin_or_ethnicity",
        "religion",
        "disability",
        "attractiveness",
    } <= told.keys()
    import duckdb

    def found(group: str, text: str) -> bool:
        return duckdb.execute(
            "SELECT regexp_matches(?, ?)", [text, person_attributes.word_pattern(told[group])]
        ).fetchall()[0][0]

    assert (
        found("masculine", "the man's hat")
        and found("masculine", "two boys, one hat")
        and not found("masculine", "a mango of many")
    )
    assert (
        not found("masculine", "the woman")
        and found("feminine", "women")
        and found("age", "a middle-aged cook")
        and not found("age", "household")
    )
    assert found("skin_or_ethnicity", "a black  man") and not found(
        "skin_or_ethnicity", "a black dog"
    )


def test_shares_before_and_after_the_filter(written):
    kept = [
        row(n, "Why is the woman [0] here?" if n % 4 == 0 else "Why is [0] here?", image=f"m{n}")
        for n in range(40)
    ]
    raw = [row(n, "Who is the woman [0]?", image=f"m{n % 40}") for n in range(40, 80)]
    told = reporting.raw_and_kept(
        *(written(kept, raw) / f"{name}.parquet" for name in ("triples", "corpus"))
    )
    women = told["attributes"]["feminine"]
    assert (
        women["count"] == dict(raw=50, kept=10)
        and women["raw"]["mean"] == 50 / 80
        and women["kept"]["mean"] == 0.25
    )
    assert women["difference"]["mean"] == 0.25 - 50 / 80 and women["difference"]["high"] < 0
    assert women["kept"]["low"] < 0.25 < women["kept"]["high"] and women["kept"]["low"] > 0.05
    assert told["attributes"]["religion"]["difference"] == dict(mean=0.0, low=0.0, high=0.0)
    assert (
        told["question_types"]["why"]["kept"]["mean"] == 1
        and told["question_types"]["who"]["kept"]["mean"] == 0
    )
    again = reporting.raw_and_kept(
        *(written(kept, raw) / f"{name}.parquet" for name in ("triples", "corpus"))
    )
    assert told == again


def test_a_bad_vocabulary_is_named(tmp_path):
    for text, complaint in (
        ("age: old", "group 'age'"),
        ("- a", "expected groups"),
        ("a: [", "not valid YAML"),
        ("a: [1]", "group 'a'"),
    ):
        (tmp_path / "words.yaml").write_text(text)
        with pytest.raises(ValueError, match=f"words.yaml.*{complaint}"):
            person_attributes.read_attributes(tmp_path / "words.yaml")


# ------------------------------------------------------------------------------------------ contamination


@pytest.mark.parametrize(
    "path, name",
    [
        ("VG_100K_2/2417.jpg", "visual_genome 2417"),
        ("images/v7w_2417.jpg", "visual_genome 2417"),
        ("val2017/000000000139.jpg", "coco 139"),
        ("x/COCO_val2014_000000000139.jpg", "coco 139"),
        ("flickr30k_images/139.jpg", "flickr30k_images/139"),
        ("vcr1images/lsmdc_1/A@3.jpg", "a@3.jpg"),
    ],
)
def test_a_data_set_s_name_of_an_image(path, name):
    assert contamination.image_name(path) == name


def drawing(path: Path, seed: int) -> None:
    """A drawn picture: the same ground, other shapes."""
    rng = np.random.default_rng(seed)
    picture = np.full((120, 160, 3), (150, 200, 240), np.uint8)
    picture[80:] = (90, 160, 80)
    for _ in range(4):
        x, y = rng.integers(0, 130), rng.integers(20, 90)
        picture[y : y + rng.integers(15, 30), x : x + rng.integers(15, 30)] = rng.integers(
            0, 256, size=3
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def test_an_image_is_known_by_name_or_picture_and_no_other(written, tmp_path):
    folder = written(
        [
            row(0, "Who is [0]?", image="1"),
            row(1, "Who is [0]?", image="2"),
            row(2, "Who is [0]?", image="3"),
        ]
    )
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for number in (2, 3):
        drawing(ours / f"VG_100K/{number}.jpg", number)
    photograph = Image.open(PHOTOGRAPH).convert("RGB")
    photograph.save(ours / "VG_100K/1.jpg", quality=95)
    (theirs / "s").mkdir(parents=True)
    photograph.save(theirs / "s/other_name.png")
    photograph.resize((photograph.width // 2, photograph.height // 2)).save(
        theirs / "s/small.jpg", quality=40
    )
    drawing(theirs / "s/new.jpg", 99)
    drawing(theirs / "s/v7w_2.jpg", 98)  # the same name for another picture
    (theirs / "s/broken.jpg").write_bytes(b"no image")
    names = [
        "s/other_name.png",
        "s/small.jpg",
        "s/new.jpg",
        "s/v7w_2.jpg",
        "s/broken.jpg",
        "s/absent.jpg",
    ]
    told = contamination.measure_contamination(
        folder / "corpus.parquet",
        ours,
        {"set": ([item(n, path) for n, path in enumerate(names)], theirs)},
    )["set"]["image"]
    assert (
        told["images"],
        told["same_name"],
        told["same_picture"],
        told["items"],
        told["unreadable"],
    ) == (6, 1, 2, 3, 2)
    pairs = {(e["benchmark"], e["corpus"]): (e["same_name"], e["bits"]) for e in told["examples"]}
    assert pairs.keys() == {
        ("s/other_name.png", "VG_100K/1.jpg"),
        ("s/small.jpg", "VG_100K/1.jpg"),
        ("s/v7w_2.jpg", "VG_100K/2.jpg"),
    }
    assert (
        pairs["s/v7w_2.jpg", "VG_100K/2.jpg"] == (True, None)
        and pairs["s/small.jpg", "VG_100K/1.jpg"][1] <= contamination.BITS
    )


def test_a_text_is_known_exactly_or_nearly_and_both_about_the_same_picture(written, tmp_path):
    folder = written(
        [
            row(0, "Who is [2]?", "A cook.", image="1"),
            row(1, f"Why {LONG}?", "Yes.", image="2"),
            row(2, "Who is [0]?", "A cook.", image="3"),
        ]
    )
    items = [
        item(0, "v7w_1.jpg", "who is [0]?"),
        item(1, "v7w_9.jpg", "Who is [1]?"),
        item(2, "v7w_2.jpg", f"Why {LONG.replace('grey', 'red')}?", ("No.", "Yes."), 1),
        item(3, "v7w_1.jpg", label=None),
        item(4, "v7w_1.jpg", "Who is [0]?", label=1),
    ]
    told = contamination.measure_contamination(
        folder / "corpus.parquet", tmp_path, {"set": (items, tmp_path)}
    )["set"]
    text = told["text"]
    assert (text["compared"], text["without_answer"], text["exact"], text["near"]) == (4, 1, 2, 1)
    assert text["examples"] == [dict(item="i0", triple="t0", wording="who is []? a cook.", items=2)]
    assert (
        text["near_examples"][0]["item"] == "i2"
        and text["near_examples"][0]["triple"] == "t1"
        and 0.7 <= text["near_examples"][0]["jaccard"] < 1
    )
    assert told["both"] == dict(items=1, share=0.25, examples=[dict(item="i0", triple="t0")])
    assert told["image"]["items"] == 4 and told["image"]["unreadable"] == 3  # known by name alone


# ----------------------------------------------------------------------------------------- toxicity


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A tiny random text classifier with labels of one's choice."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    def make(labels: list[str], problem: str) -> str:
        folder = tmp_path_factory.mktemp("classifier")
        (folder / "vocab.txt").write_text(
            "\n".join(
                [
                    "[PAD]",
                    "[UNK]",
                    "[CLS]",
                    "[SEP]",
                    "[MASK]",
                    *"abcdefghijklmnopqrstuvwxyz",
                    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
                ]
            )
        )
        BertTokenizerFast(
            vocab=str(folder / "vocab.txt"), vocab_file=str(folder / "vocab.txt")
        ).save_pretrained(folder)
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=57,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=32,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={n: i for i, n in enumerate(labels)},
            problem_type=problem,
        )
        BertForSequenceClassification(config).save_pretrained(folder)
        return str(folder)

    return make


@pytest.mark.parametrize(
    "labels, problem, wanted, read",
    [
        (["toxic", "severe_toxic", "insult"], "multi_label_classification", "", "toxic"),
        (["neutral", "Toxic"], "single_label_classification", "", "Toxic"),
        (["LABEL_0", "LABEL_1"], "single_label_classification", "", "LABEL_1"),
        (["x", "toxic", "insult"], "multi_label_classification", "insult", "insult"),
    ],
)
def test_toxicity_is_the_named_label_s_probability(
    written, classifier, labels, problem, wanted, read
):
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    model = classifier(labels, problem)
    texts = ["why is he here", "go away " * 40, "b"]
    name, scores = toxicity.toxic_probabilities(texts, model, wanted)
    with torch.no_grad():
        logits = (
            BertForSequenceClassification.from_pretrained(model)
            .eval()(
                **AutoTokenizer.from_pretrained(model)(
                    texts, truncation=True, max_length=32, padding=True, return_tensors="pt"
                )
            )
            .logits
        )
    expected = (logits.sigmoid() if problem.startswith("multi") else logits.softmax(-1))[
        :, labels.index(read)
    ]
    assert name == read and np.allclose(scores, expected, atol=1e-5)


def test_toxicity_of_a_sample_of_stated_size(written, classifier):
    model = classifier(["toxic", "insult"], "multi_label_classification")
    folder = written([row(n, f"Why {'abcdefghij'[n]} [0]?", image=f"m{n % 4}") for n in range(10)])
    told = toxicity.measure_toxicity(folder / "corpus.parquet", model, sample=6, threshold=0.0)
    assert (told["sample"], told["of"], told["share"]["mean"], told["label"]) == (
        6,
        10,
        1.0,
        "toxic",
    ) and len(told["examples"]) == 5
    assert told == toxicity.measure_toxicity(
        folder / "corpus.parquet", model, sample=6, threshold=0.0
    )
    assert {e["triple"] for e in told["examples"]} != {
        e["triple"]
        for e in toxicity.measure_toxicity(folder / "corpus.parquet", model, sample=5, seed=3)[
            "examples"
        ]
    }
    assert (
        toxicity.measure_toxicity(folder / "corpus.parquet", model, sample=99, threshold=1.0)[
            "share"
        ]["mean"]
        == 0
    )
    with pytest.raises(ValueError, match="label: 'hate' is not among .*insult"):
        toxicity.measure_toxicity(folder / "corpus.parquet", model, "hate")
    report = reporting.report_run(folder, toxicity_model=model, toxicity_sample=4)
    assert report["toxicity"]["raw"][
        "sample"
    ] == 4 and "label `toxic`" in report_text.report_markdown(report)


# ---------------------------------------------------------------------------------------- the whole


def test_the_report_says_what_was_not_measured_and_shows_no_markup(written, tmp_path):
    folder = written(
        [row(n, "Why is <b>[0]</b> ![x](http://x) a|b `here`?", image=f"m{n}") for n in range(3)]
    )
    report = reporting.report_run(folder)
    paths = reporting.write_report(report, tmp_path / "out")
    assert json.loads(paths[0].read_text()) == json.loads(json.dumps(report))
    text = paths[1].read_text()
    assert (
        "Not measured: no benchmark was given." in text
        and "Not measured: no classifier was named." in text
    )
    line = next(line for line in text.splitlines() if "![x]" in line)
    assert line.count("|") == 3 and line.count("`") == 2 and "a¦b 'here'?" in line
    tables = report_text.report_tables(report)
    assert (
        tables["lengths"].query("text == 'answer'")["count"].sum() == 3
        and tables["contamination"].empty
    )
    assert set(tables) == {
        "question_types",
        "attributes",
        "regions_per_triple",
        "region_sizes",
        "lengths",
        "pointing",
        "contamination",
    }


def test_an_empty_corpus_has_a_report(written, tmp_path):
    folder = written([], [row(n, "Why is the woman [0] here?", image=f"m{n}") for n in range(3)])
    report = reporting.report_run(folder, tmp_path, {"set": ([item(0, "x.jpg")], tmp_path)})
    assert (
        reporting.write_report(report, tmp_path / "out")[1]
        .read_text()
        .startswith("## What it is made of\n\n0 triples about 0 images.")
    )
    women = report["raw_and_kept"]["attributes"]["feminine"]
    assert (
        women["raw"]["mean"] == 1
        and women["kept"]["mean"] is None
        and report["repeats"]["exact"]["share"] == 0
    )
    assert report_text.report_tables(report)["contamination"].iloc[0]["same_text"] == 0


def test_sets_of_the_world_have_no_held_out_picture(written, tmp_path):
    """The mini world's files, read as the real sets are; its training stills are the corpus's
    own pictures.
    """
    from lskd_nb.mini.files.world_files import write_world

    write_world(tmp_path / "world", 12, 6, seed=0)
    homes = {
        name: tmp_path / "world" / name
        for name in ("vcr", "sherlock", "visualcomet", "aokvqa", "snli_ve", "visual7w", "nowhere")
    }
    sets = contamination.benchmark_sets(homes)
    assert set(sets) == set(homes) - {"nowhere"} and all(items for items, _ in sets.values())
    images = sorted((tmp_path / "world/visual_genome/VG_100K").glob("*.jpg"))
    folder = written([row(n, "Why is [0] here?", image=path.stem) for n, path in enumerate(images)])
    told = contamination.measure_contamination(
        folder / "corpus.parquet", tmp_path / "world/visual_genome", sets
    )
    assert all(t["image"]["items"] == 0 and t["image"]["unreadable"] == 0 for t in told.values())
    from lskd_nb.sources import vcr

    trained = [vcr.q_a(q) for q in vcr.read_vcr(homes["vcr"], "train")[0]]
    assert (
        contamination.measure_contamination(
            folder / "corpus.parquet",
            tmp_path / "world/visual_genome",
            {"t": (trained, homes["vcr"])},
        )["t"]["image"]["items"]
        == len(trained)
        > 0
    )


def test_the_command_looks_for_the_sets_that_the_run_was_evaluated_on(
    lskd, root, finished_run, tmp_path
):
    from lskd_nb.mini.files.world_files import write_world

    write_world(tmp_path / "elsewhere", 6, 4, seed=0)
    told = json.loads((finished_run / "manifest.json").read_text())
    told["notebooks"]["06_evaluation"]["parameters"] = dict(
        vcr_folder=str(tmp_path / "elsewhere/vcr"), snli_ve_folder="", sherlock_images=""
    )
    (finished_run / "manifest.json").write_text(json.dumps(told))
    done = lskd(root, "report", "tiny", "--run", str(finished_run))
    assert done.returncode == 0 and "## Contamination of benchmarks" in done.stdout, done.stderr
    report = json.loads((finished_run / "report.json").read_text())
    assert (
        report["contamination"].keys() == {"vcr"}
        and report["contamination"]["vcr"]["items"] > 0
        and report["toxicity"] is None
    )
    assert (finished_run / "report.md").read_text().strip() in done.stdout
