"""Toxicity by a classifier: the named label's probability, over a sample of stated size."""

import numpy as np
import pytest

from lskd_nb.publishing import report as reporting
from lskd_nb.publishing import report_text, toxicity


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
    written_corpus, classifier, labels, problem, wanted, read
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


def test_toxicity_of_a_sample_of_stated_size(corpus_row, written_corpus, classifier):
    model = classifier(["toxic", "insult"], "multi_label_classification")
    folder = written_corpus(
        [corpus_row(n, f"Why {'abcdefghij'[n]} [0]?", image=f"m{n % 4}") for n in range(10)]
    )
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
