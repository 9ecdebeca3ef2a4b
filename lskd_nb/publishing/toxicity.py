"""Toxicity: what a text classifier of the user's choice finds in a sample of the texts.

No word list tells rude texts from texts about rudeness, so there is no default: without a model the
report says "not measured". Classifiers have their own biases; many find identity words alone toxic.
The texts of highest score are there to be read, not to be believed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lskd_nb.corpus.dedup import TRIPLE
from lskd_nb.records import NUMBERED_PARQUET, PARQUET, database

# what models call it, case aside; the first that fits
TOXIC_LABELS = ("toxic", "toxicity", "toxic_comment", "hate", "offensive", "abusive", "label_1")


def measure_toxicity(
    path: str | Path,
    model: str,
    label: str = "",
    sample: int = 2000,
    threshold: float = 0.5,
    seed: int = 0,
    batch: int = 32,
    examples: int = 5,
) -> dict:
    """Share of a random sample of triples whose text a ``transformers`` text classifier gives a
    probability of at least ``threshold``.

    ``model`` is a hub name or folder, e.g. unitary/toxic-bert; models of several labels (sigmoid)
    and of two classes (softmax) are both read as their configuration says. ``label`` names the
    output that means toxic; "": the first of ``TOXIC_LABELS`` that the model has. Returns JSON-able
    figures with a 95% interval over images. Raises ``ValueError`` for an unknown label, naming
    those there are.
    """
    from lskd_nb.evaluation.choices import bootstrap

    with database() as db:
        db.execute(
            "CREATE TABLE triples AS SELECT triple_id, image_id, regexp_replace("
            + TRIPLE
            + r", '\s*\[[\d, ]+\]', '', 'g') AS text "
            f"FROM {NUMBERED_PARQUET} ORDER BY hash(file_row_number, ?) LIMIT ?",
            [str(path), seed, sample],
        )
        rows = db.execute("SELECT * FROM triples").fetchall()
        total = db.execute(f"SELECT count(*) FROM {PARQUET}", [str(path)]).fetchall()[0][0]
    if not rows:
        raise ValueError(f"{path} has no triples to look at")
    name, scores = toxic_probabilities([text for _, _, text in rows], model, label, batch)
    found = bootstrap(scores >= threshold, [image for _, image, _ in rows])
    worst = np.argsort(-scores, kind="stable")[:examples]
    return dict(
        model=str(model),
        label=name,
        threshold=threshold,
        sample=len(rows),
        of=total,
        share=found,
        mean=float(scores.mean()),
        max=float(scores.max()),
        examples=[dict(triple=rows[i][0], probability=round(float(scores[i]), 4)) for i in worst],
    )


def toxic_probabilities(
    texts: Sequence[str], model: str, label: str = "", batch: int = 32
) -> tuple[str, np.ndarray]:
    """The label that was read, and its probability for each text, (N,)."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=model, tokenizer=model)
    name = _label(list(classify.model.config.id2label.values()), label, model)
    limit = min(classify.model.config.max_position_embeddings, 512)
    found = classify(list(texts), top_k=None, batch_size=batch, truncation=True, max_length=limit)
    return name, np.array(
        [next(one["score"] for one in every if one["label"] == name) for every in found]
    )


def _label(labels: Sequence[str], wanted: str, model: str) -> str:
    by_name = {name.lower(): name for name in labels}
    for name in [wanted.lower()] if wanted else TOXIC_LABELS:
        if name in by_name:
            return by_name[name]
    raise ValueError(
        f"label: {wanted or 'none of the usual names'!r} is not among {labels}, which {model}"
        " tells; name the one that means toxic"
    )
