"""The critic: a BLIP-2 stage 1 that tells acceptable triples from others (LSKD, section 3.2).

The image with its regions drawn and the whole triple go through the Q-Former together; the mean
over the query outputs is what a two-way head (reject, accept) says, and what two regression heads
say that predict the annotators' scores of the question-answer pair and of the rationale:

    L = CE(accept) + 0.5 MSE(qa score) + 0.5 MSE(rationale score)

(the reference release trains the rationale head on the question-answer score; each head has its own
target here). Class 1 is *accept* wherever a label, a probability or a metric is meant.

Which of the regions that a triple was offered are drawn is a ``Drawing``: all of them under their
own numbers, or few of them, numbered anew, as in the reference release.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lskd_nb.regions import Region, mentions, renumber
from lskd_nb.students.blip2 import Student, autocast
from lskd_nb.students.lavis_weights import check_numbers
from lskd_nb.students.loading import load_student, whole_checkpoint
from lskd_nb.students.qformer import ImageKeysValues
from lskd_nb.students.views import FrozenFeatures, View, scoring_passes
from lskd_nb.training.batches import answer_text, fixed_order

HEADS = "critic_heads.safetensors"
AUXILIARY_WEIGHT = 0.5


@dataclass(frozen=True)
class Drawing:
    """Which of the regions that a triple was offered are drawn.

    With the defaults all are, under their own numbers. Else those that its texts mention come
    first, in order of mention, then others, ``at_most`` in all (0: no limit; what is mentioned is
    always drawn), numbered 0, 1, … in this order. ``mentioned_share`` is the share of training's
    draws that show nothing but the mentioned ones; where it is not 0, scoring shows them alone.
    In the reference release these are 5 and 0.6.
    """

    at_most: int = 0
    mentioned_share: float = 0.0


@dataclass(frozen=True)
class CriticExample:
    """A triple about a view; labels are None when only scoring. Scores are 0 to 1."""

    view: View
    question: str
    text: str
    accept: float | None = None
    qa_score: float | None = None
    rationale_score: float | None = None


class Critic(nn.Module):
    """Multi-query head and the two regressions over a stage-1 BLIP-2.

    The regressions are linear, or have a hidden layer of width ``head_hidden``: Linear, ReLU,
    Linear, of each query output, as in the reference release, where it is as wide as the Q-Former.
    ``drawing`` is what it was trained to look at.
    """

    def __init__(self, blip2: Student, head_hidden: int = 0, drawing: Drawing = Drawing()):
        super().__init__()
        self.blip2, self.drawing = blip2, drawing
        hidden = blip2.blip2.config.qformer_config.hidden_size
        self.accept_head = nn.Linear(hidden, 2)
        # matching is where accepting starts from
        self.accept_head.load_state_dict(blip2.blip2.itm_head.state_dict())
        self.qa_head = _regression(hidden, head_hidden)
        self.rationale_head = _regression(hidden, head_hidden)

    def forward(
        self, image: Tensor | ImageKeysValues, questions: Sequence[str], texts: Sequence[str]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, patches + 1, width) features and R triples, grouped by image, as many about each
        -> logits (R, 2), scores (R,) and (R,).
        """
        tokens = self.blip2.tokenize(questions, texts)
        seen_RQH = self.blip2.seen_by_queries(image, tokens)
        pooled = seen_RQH.mean(1)
        linear = isinstance(self.qa_head, nn.Linear)  # then the mean may as well come first
        qa, rationale = (
            head(pooled) if linear else head(seen_RQH).mean(1)
            for head in (self.qa_head, self.rationale_head)
        )
        return (
            self.accept_head(pooled).float(),
            qa.float().squeeze(-1),
            rationale.float().squeeze(-1),
        )

    def save(self, folder: str | Path) -> None:
        self.blip2.save(folder)
        heads = {n: v for n, v in self.state_dict().items() if not n.startswith("blip2.")}
        told = {
            "at_most": str(self.drawing.at_most),
            "mentioned_share": str(self.drawing.mentioned_share),
        }
        save_file({n: v.contiguous() for n, v in heads.items()}, Path(folder) / HEADS, told)


def _regression(width: int, hidden: int) -> nn.Module:
    if not hidden:
        return nn.Linear(width, 1)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))


def load_critic(folder: str | Path) -> Critic:
    """Load a trained critic, with the heads and the drawing that it was trained with.

    Raises ``FileNotFoundError`` where the folder has no critic's heads, ``ValueError`` where they
    are damaged or those of another network.
    """
    path = Path(folder) / HEADS
    if not path.exists():
        raise FileNotFoundError(f"{folder} has no {HEADS}: train the critic first (notebook 03)")
    blip2 = load_student(str(folder))
    with whole_checkpoint(folder):
        weights = load_file(path)
        check_numbers(weights, path)
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
        first = weights.get("qa_head.0.weight")
        critic = Critic(
            blip2,
            0 if first is None else len(first),
            Drawing(int(told.get("at_most", 0)), float(told.get("mentioned_share", 0))),
        )
        missing, left = critic.load_state_dict(weights, strict=False)
        lost = [name for name in missing if not name.startswith("blip2.")]
        if lost or left:
            raise ValueError(f"{path} is not a critic's: it lacks {lost} and has {left} besides")
    return critic.eval()


def critic_example(
    image: str, regions: Sequence[Region], triple: dict, label: dict | None = None
) -> CriticExample:
    """A triple row about the regions it was offered, with the mean of its labels, if any.

    One that mentions no region is about the plain image.
    """
    text = answer_text(triple["answer"], triple["rationale"])
    offered = set(triple["regions_offered"]) if mentions(f"{triple['question']} {text}") else ()
    if label is None:
        scores = {}
    else:
        scores = {k: float(label[k]) for k in ("accept", "qa_score", "rationale_score")}
    view = View(image, tuple(r for r in regions if r.id in offered))
    return CriticExample(view, triple["question"], text, **scores)


def as_drawn(
    row: CriticExample, drawing: Drawing, rng: np.random.Generator | None = None
) -> CriticExample:
    """A triple with the regions that are drawn of it, and its texts renumbered to match.

    Without ``rng`` as scoring draws them, the same each time; with it as a step of training does,
    which of the others are drawn, and in which order, being random.

    Raises ``ValueError`` for a mentioned region that the triple was not offered.
    """
    regions = {r.id: r for r in row.view.regions}
    if not regions or (rng is None and drawing == Drawing()):
        return row
    told = [i for i in mentions(f"{row.question} {row.text}") if i in regions]
    if rng is None:
        alone = drawing.mentioned_share > 0
    else:
        alone = rng.random() < drawing.mentioned_share
    others = [i for i in regions if i not in told]
    if rng is not None and not alone:
        others = [others[i] for i in rng.permutation(len(others))]
    chosen = told + ([] if alone else others[: _room(drawing, len(told), len(others))])
    if rng is not None and not alone:
        chosen = [chosen[i] for i in rng.permutation(len(chosen))]
    mapping = {old: new for new, old in enumerate(chosen)}
    drawn = tuple(replace(regions[old], id=new) for old, new in mapping.items())
    return replace(
        row,
        view=View(row.view.image, drawn),
        question=renumber(row.question, mapping),
        text=renumber(row.text, mapping),
    )


def _room(drawing: Drawing, told: int, others: int) -> int:
    return max(drawing.at_most - told, 0) if drawing.at_most else others


def ids_shuffled(row: CriticExample, which: int) -> CriticExample:
    """The same triple with its regions numbered another way, one of several fixed ones for each
    image; 0 leaves it as it is, and 1 is what a student who reads all regions sees, whose stored
    features serve both.
    """
    if which == 0 or not row.view.regions:
        return row
    regions, mapping = fixed_order(row.view.image, row.view.regions, which - 1)
    return replace(
        row,
        view=View(row.view.image, regions),
        question=renumber(row.question, mapping),
        text=renumber(row.text, mapping),
    )


def region_swapped(row: CriticExample, rng: np.random.Generator) -> CriticExample | None:
    """An accepted triple told of the wrong region: two drawn ids exchanged.

    A reject that costs no annotator's time.
    """
    drawn, told = [r.id for r in row.view.regions], mentions(row.question)
    if not told or len(drawn) < 2:
        return None
    one = told[0]
    other = int(rng.choice([i for i in drawn if i != one]))
    mapping = {i: i for i in {*drawn, *mentions(row.text)}} | {one: other, other: one}
    return CriticExample(
        row.view, renumber(row.question, mapping), renumber(row.text, mapping), 0.0, 0.0, 0.0
    )


def critic_losses(
    critic: Critic, image: Tensor, batch: Sequence[CriticExample]
) -> dict[str, Tensor]:
    """The three parts of the loss above on a batch of labelled triples: "accept", "qa_score" and
    "rationale_score".
    """
    logits, qa, rationale = critic(image, [r.question for r in batch], [r.text for r in batch])
    target = {
        k: torch.tensor([getattr(r, k) for r in batch], device=image.device)
        for k in ("accept", "qa_score", "rationale_score")
    }
    return {
        "accept": F.cross_entropy(logits, (target["accept"] >= 0.5).long()),
        "qa_score": F.mse_loss(qa, target["qa_score"]),
        "rationale_score": F.mse_loss(rationale, target["rationale_score"]),
    }


def critic_loss(parts: Mapping[str, Tensor]) -> Tensor:
    """Their sum, the two regressions weighted."""
    return (
        parts["accept"]
        + AUXILIARY_WEIGHT * parts["qa_score"]
        + AUXILIARY_WEIGHT * parts["rationale_score"]
    )


@torch.no_grad()
def score(
    critic: Critic, rows: Sequence[CriticExample], views: FrozenFeatures, batch: int = 256
) -> dict[str, np.ndarray]:
    """``score`` (of accept), ``qa_score`` and ``rationale_score``: (N,) float32 in 0..1.

    Of each triple is drawn what the critic was trained to look at. Each view is encoded once,
    whatever the number of triples about it, and ``batch`` triples go through the Q-Former at a
    time. Raises ``ValueError`` where a score is no number.
    """
    rows = [as_drawn(row, critic.drawing) for row in rows]
    out = {k: np.zeros(len(rows), np.float32) for k in ("score", "qa_score", "rationale_score")}
    for looked, turns in scoring_passes(
        [r.view.key for r in rows], [len(r.question) + len(r.text) for r in rows], batch
    ):
        with autocast(critic.blip2.device):
            seen = critic.blip2.image_keys_values(views.features([rows[i].view for i in looked]))
            for part in turns:
                logits, qa, rationale = critic(
                    seen, [rows[i].question for i in part], [rows[i].text for i in part]
                )
                out["score"][part] = logits.softmax(-1)[:, 1].cpu()
                out["qa_score"][part] = qa.clamp(0, 1).cpu()
                out["rationale_score"][part] = rationale.clamp(0, 1).cpu()
    if lost := [n for n in range(len(rows)) if not all(np.isfinite(v[n]) for v in out.values())]:
        first = rows[lost[0]]
        raise ValueError(
            f"the critic's scores of {len(lost):,} of {len(rows):,} triples are no numbers, the"
            f" first about {first.view.image}: {first.question!r}; its weights are damaged, or its"
            " training went astray: train it again with a lower learning rate (notebook 03)"
        )
    return out


def critic_metrics(accepted: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 at 0.5, and the area under the ROC curve; class 1 is accept."""
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    precision, recall, f1, _ = precision_recall_fscore_support(
        accepted, probability >= 0.5, average="binary", pos_label=True, zero_division=0.0
    )
    auc = roc_auc_score(accepted, probability) if 0 < np.mean(accepted) < 1 else float("nan")
    return dict(precision=float(precision), recall=float(recall), f1=float(f1), auc=float(auc))
