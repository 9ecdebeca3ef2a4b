"""Before it learns from labels, the critic reads: triples that nobody has judged, drawn at random,
as a student of distillation.

Labels are dear and triples are cheap. What comes out knows what ``[0]`` means and that a text with
two ids exchanged is not about this image; ``Critic`` starts from it. It is the *unfiltered* student
too, so its recipe is that of notebook 05, which trains it anew where its own parameters differ. In
the paper there is no such step.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from lskd_nb.students.loading import load_student
from lskd_nb.training.distillation import DistillationConfig
from lskd_nb.training.launch import Curves, store_features, train_one


def reading_config(
    folder: str | Path,
    student: str,
    image_root: str | Path,
    *,
    steps: int,
    batch: int,
    lr: float,
    warmup: int,
    embedding_lr: float,
    seed: int,
    image_size: int | None = None,
    store_views: bool = True,
    workers: int = 0,
    threads: int = 0,
) -> DistillationConfig:
    """How ``student`` reads ``unfiltered.parquet`` and rehearses ``rehearsal.parquet``, both in the
    run's ``folder``; where ``store_views``, from features that are computed once.
    """
    home = Path(folder)
    return DistillationConfig(
        student=student,
        corpus=str(home / "unfiltered.parquet"),
        image_root=str(image_root),
        out=str(home / "student" / "unfiltered"),
        steps=steps,
        batch=batch,
        lr=lr,
        min_lr=1e-5,
        beta2=0.98,
        clip_norm=1.0,
        warmup=warmup,
        seed=seed,
        itc=0.2,
        lm=0.0,
        lm_conditioned=0.5,
        swaps=0.5,
        exchanges=0.8,
        near_misses=0.5,
        embedding_lr=embedding_lr,
        rehearsal=str(home / "rehearsal.parquet"),
        rehearsal_share=0.2,
        base_share=0.3,
        prefix="",
        checkpoint_every=50,
        image_size=image_size,
        views=2,
        view_store=str(home / "views") if store_views else None,
        workers=workers,
        threads=threads,
    )


def read_unjudged(
    config: DistillationConfig,
    processes: int = 1,
    on_steps: Callable[[Curves], None] = lambda curves: None,
) -> Path:
    """Read, in ``processes`` processes of their own; returns the folder of the reader.

    Where features are to be stored, those of all views are computed before.
    """
    if config.view_store is not None:
        base = load_student(config.student, image_size=config.image_size).eval()
        store_features(
            base.to("cuda" if torch.cuda.is_available() else "cpu"),
            config.image_root,
            config.view_store,
            [config.corpus],
            config.views,
            rehearsal=config.rehearsal,
        )
        del base  # training needs a GPU's memory
        torch.cuda.empty_cache()
    train_one(config, processes, on_steps)
    return Path(config.out)
