"""The critic: a BLIP-2 stage 1 that tells acceptable triples from others (LSKD, section 3.2).

The image with its regions drawn and the whole triple go through the Q-Former together; the mean of
the query outputs feeds a two-way head (reject, accept) and two regression heads that predict the
annotators' scores of the question-answer pair and of the rationale:

    L = CE(accept) + 0.5 MSE(qa score) + 0.5 MSE(rationale score)

(the reference release trains the rationale head on the question-answer score; each head has its own
target here). Class 1 is *accept* wherever a label, a probability or a metric is meant.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lskd_nb.regions import Region, mentions, renumber, shuffle_ids
from lskd_nb.students.blip2 import Student, autocast
from lskd_nb.students.loading import load_student, whole_checkpoint
from lskd_nb.students.qformer import ImageKeysValues
from lskd_nb.students.views import FrozenFeatures, View, scoring_passes
from lskd_nb.training.batches import answer_text
from lskd_nb.training.loop import clip_gradients, learning_rate, optimizer_of, set_learning_rate

HEADS = "critic_heads.safetensors"
AUXILIARY_WEIGHT = 0.5


@dataclass(frozen=True)
class CriticConfig:
    """How the critic is trained."""

    steps: int
    batch: int = 64
    lr: float = 1e-5
    min_lr: float = 0.0
    weight_decay: float = 0.05
    warmup: int = 0
    seed: int = 0
    swaps: float = (
        0.0  # share of a batch replaced by region swaps of accepted triples, labelled reject
    )
    embedding_lr: float = 1.0  # of the word embeddings, as a multiple
    shuffles: int = (
        0  # further fixed numberings of each image's regions; a label holds under any of them
    )


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
    """Multi-query head and the two regressions over a stage-1 BLIP-2."""

    def __init__(self, blip2: Student):
        super().__init__()
        self.blip2 = blip2
        hidden = blip2.blip2.config.qformer_config.hidden_size
        self.accept_head = nn.Linear(hidden, 2)
        # matching is where accepting starts from
        self.accept_head.load_state_dict(blip2.blip2.itm_head.state_dict())
        self.qa_head = nn.Linear(hidden, 1)
        self.rationale_head = nn.Linear(hidden, 1)

    def forward(
        self, image: Tensor | ImageKeysValues, questions: Sequence[str], texts: Sequence[str]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, patches + 1, width) features and R triples, grouped by image, as many about each
        -> logits (R, 2), scores (R,) and (R,).
        """
        tokens = self.blip2.tokenize(questions, texts)
        queries = self.blip2.blip2.query_tokens.shape[1]
        pooled = self.blip2.fused(image, tokens.ids, tokens.mask)[:, :queries].mean(1)
        return (
            self.accept_head(pooled).float(),
            self.qa_head(pooled).float().squeeze(-1),
            self.rationale_head(pooled).float().squeeze(-1),
        )

    def save(self, folder: str | Path) -> None:
        self.blip2.save(folder)
        heads = {n: v for n, v in self.state_dict().items() if not n.startswith("blip2.")}
        save_file({n: v.contiguous() for n, v in heads.items()}, Path(folder) / HEADS)


def load_critic(folder: str | Path) -> Critic:
    """Load a trained critic.

    Raises ``FileNotFoundError`` where the folder has no critic's heads.
    """
    if not (Path(folder) / HEADS).exists():
        raise FileNotFoundError(f"{folder} has no {HEADS}: train the critic first (notebook 03)")
    critic = Critic(load_student(str(folder)))
    with whole_checkpoint(folder):
        critic.load_state_dict(load_file(Path(folder) / HEADS), strict=False)
    return critic.eval()


def critic_example(
    image: str, regions: Sequence[Region], triple: dict, label: dict | None = None
) -> CriticExample:
    """A triple row about the regions it was offered, with the mean of its labels, if any."""
    offered = tuple(r for r in regions if r.id in set(triple["regions_offered"]))
    if label is None:
        scores = {}
    else:
        scores = {k: float(label[k]) for k in ("accept", "qa_score", "rationale_score")}
    return CriticExample(
        View(image, offered),
        triple["question"],
        answer_text(triple["answer"], triple["rationale"]),
        **scores,
    )


def ids_shuffled(row: CriticExample, which: int) -> CriticExample:
    """The same triple with its regions numbered another way, one of several fixed ones for each
    image; 0 leaves it as it is.
    """
    if which == 0 or not row.view.regions:
        return row
    rng = np.random.default_rng([zlib.crc32(row.view.image.encode()), which])
    regions, mapping = shuffle_ids(row.view.regions, (), rng)
    return replace(
        row,
        view=View(row.view.image, regions),
        question=renumber(row.question, mapping),
        text=renumber(row.text, mapping),
    )


def training_views(rows: Iterable[CriticExample], shuffles: int = 0) -> list[View]:
    """Every view that training may ask for: each example's own, and those of its further
    numberings.
    """
    return [ids_shuffled(row, which).view for row in rows for which in range(shuffles + 1)]


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


def critic_loss(critic: Critic, image: Tensor, batch: Sequence[CriticExample]) -> Tensor:
    """The loss above, on a batch of labelled triples."""
    logits, qa, rationale = critic(image, [r.question for r in batch], [r.text for r in batch])
    target = {
        k: torch.tensor([getattr(r, k) for r in batch], device=image.device)
        for k in ("accept", "qa_score", "rationale_score")
    }
    return (
        F.cross_entropy(logits, (target["accept"] >= 0.5).long())
        + AUXILIARY_WEIGHT * F.mse_loss(qa, target["qa_score"])
        + AUXILIARY_WEIGHT * F.mse_loss(rationale, target["rationale_score"])
    )


def train_critic(
    critic: Critic,
    rows: Sequence[CriticExample],
    views: FrozenFeatures,
    config: CriticConfig,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Train on labelled triples, the vision encoder frozen; returns the loss of each step."""
    torch.manual_seed(config.seed)
    optimizer = optimizer_of(
        critic, critic.blip2.word_embeddings, config.weight_decay, config.embedding_lr
    )
    history = []
    critic.train()
    for step in range(config.steps):
        rng = np.random.default_rng([config.seed, 4, step])
        drawn = zip(
            rng.integers(len(rows), size=config.batch),
            rng.integers(config.shuffles + 1, size=config.batch),
            strict=True,
        )
        batch = [ids_shuffled(rows[row], int(which)) for row, which in drawn]
        for place in range(round(config.swaps * config.batch)):
            if batch[place].accept and (wrong := region_swapped(batch[place], rng)) is not None:
                batch[place] = wrong
        set_learning_rate(optimizer, learning_rate(step, config))
        with autocast(critic.blip2.device):
            loss = critic_loss(critic, views.features([r.view for r in batch]), batch)
        loss.backward()
        clip_gradients(optimizer)
        optimizer.step()
        optimizer.zero_grad()
        history.append(loss.item())
        on_step(step + 1, history[-1])
    critic.eval()
    return history


@torch.no_grad()
def score(
    critic: Critic, rows: Sequence[CriticExample], views: FrozenFeatures, batch: int = 256
) -> dict[str, np.ndarray]:
    """``score`` (of accept), ``qa_score`` and ``rationale_score``: (N,) float32 in 0..1.

    Each view is encoded once, whatever the number of triples about it, and ``batch`` triples go
    through the Q-Former at a time.
    """
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
    return out


def critic_metrics(accepted: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 at 0.5, and the area under the ROC curve; class 1 is accept."""
    from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

    precision, recall, f1, _ = precision_recall_fscore_support(
        accepted, probability >= 0.5, average="binary", pos_label=True, zero_division=0.0
    )
    auc = roc_auc_score(accepted, probability) if 0 < np.mean(accepted) < 1 else float("nan")
    return dict(precision=float(precision), recall=float(recall), f1=float(f1), auc=float(auc))
