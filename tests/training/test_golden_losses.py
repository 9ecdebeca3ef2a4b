"""Golden losses: the first steps of each tiny training, compared with ``golden/*.txt``.

What must not change a number shows here that it changed none. All in full precision, in one thread,
without dropout, from fixed seeds. Where a change of the losses is meant, renew the files and commit
them: ``LSKD_RENEW_GOLDEN=1 pytest tests/training/test_golden_losses.py``.
"""

import os
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest
import torch

from lskd_nb.critic import training as critic_training
from lskd_nb.critic.model import critic_example
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import CORPUS, read_parquet
from lskd_nb.regions import Region
from lskd_nb.students.blip2 import Student
from lskd_nb.students.generative import GenerativeStudent
from lskd_nb.training import distillation, generative
from lskd_nb.verbalization import captioning

GOLDEN = Path(__file__).parent / "golden"
RENEW = "LSKD_RENEW_GOLDEN"
STEPS, TOLERANCE = 6, 1e-5  # relative and absolute
TESTS = Path(__file__).parents[1]
GENERATIVE = SimpleNamespace(**run_path(str(TESTS / "students/tiny_generative.py")))
CAPTIONER = SimpleNamespace(**run_path(str(TESTS / "verbalization/tiny_blip2.py")))

Losses = list[dict[str, float]]  # of each step, by their names


# ----------------------------------------------------------------------------------- the comparison


def as_text(losses: Losses) -> str:
    lines = [["step", *losses[0]]]
    lines += [[str(n), *(f"{v:.6f}" for v in line.values())] for n, line in enumerate(losses, 1)]
    return "\n".join(" ".join(line) for line in lines) + "\n"


def compare(name: str, found: Losses, folder: Path = GOLDEN) -> None:
    """Fail where a loss is not the golden one, with both beside each other; or write the file,
    where that is asked for.
    """
    path = folder / f"{name}.txt"
    if os.environ.get(RENEW):
        path.parent.mkdir(exist_ok=True)
        path.write_text(as_text(found))
    how = f"if this is meant: {RENEW}=1 pytest {Path(__file__).name}"
    assert path.exists(), f"{path.name} is not there; {how}"
    names, *lines = [line.split() for line in path.read_text().splitlines()]
    assert names[1:] == list(found[0]), f"{path.name} has {names[1:]}, not {list(found[0])}; {how}"
    golden = [dict(zip(names[1:], map(float, line[1:]), strict=True)) for line in lines]
    assert len(golden) == len(found), f"{path.name} has {len(golden)} steps, not {len(found)}"
    rows, differ = [f"{'step':>4} {'loss':>14} {'golden':>10} {'found':>10}"], False
    for step, (old, new) in enumerate(zip(golden, found, strict=True), 1):
        for loss, value in new.items():
            same = abs(value - old[loss]) <= TOLERANCE * (1 + abs(old[loss]))
            differ |= not same
            rows.append(
                f"{step:4} {loss:>14} {old[loss]:10.6f} {value:10.6f}{'' if same else ' <-'}"
            )
    assert not differ, "\n".join([f"{path.name} and the losses differ:", *rows, how])


def test_another_loss_is_shown_beside_the_golden_one(tmp_path, monkeypatch):
    monkeypatch.setenv(RENEW, "1")
    compare("tiny", [{"itc": 1.25, "lm": 3.0}, {"itc": 1.0, "lm": 2.0}], tmp_path)
    text = (tmp_path / "tiny.txt").read_text()
    assert text == "step itc lm\n1 1.250000 3.000000\n2 1.000000 2.000000\n"
    monkeypatch.delenv(RENEW)
    compare("tiny", [{"itc": 1.25001, "lm": 3.00002}, {"itc": 1.0, "lm": 2.0}], tmp_path)
    with pytest.raises(AssertionError, match=r"2 +lm +2\.000000 +2\.000100 <-\n.*RENEW_GOLDEN=1"):
        compare("tiny", [{"itc": 1.25, "lm": 3.0}, {"itc": 1.0, "lm": 2.0001}], tmp_path)
    with pytest.raises(AssertionError, match=r"has \['itc', 'lm'\], not \['itc'\]"):
        compare("tiny", [{"itc": 1.25}, {"itc": 1.0}], tmp_path)
    with pytest.raises(AssertionError, match="other.txt is not there"):
        compare("other", [{"itc": 1.25}], tmp_path)


# ------------------------------------------------------------------------------------ the trainings


@pytest.fixture(autouse=True)
def same_arithmetic(monkeypatch):
    """Full precision in one thread, and nothing dropped out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A corpus, its images, and what generative students are made of."""
    return GENERATIVE.save_world(tmp_path_factory.mktemp("golden"))


def student() -> Student:
    return fresh_student(0, hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)


def recorded(monkeypatch, where: object, name: str, called: str = "lm") -> Losses:
    """The losses that a function returns from now on: those in the log are rounded."""
    losses, function = [], getattr(where, name)

    def recording(*arguments, **named):
        found = function(*arguments, **named)
        told = found if isinstance(found, dict) else {called: found}
        losses.append({loss: value.item() for loss, value in told.items()})
        return found

    monkeypatch.setattr(where, name, recording)
    return losses


def test_distillation(world, tmp_path, monkeypatch):
    student().save(tmp_path / "base")
    losses = recorded(monkeypatch, distillation, "losses")
    distillation.train(
        distillation.DistillationConfig(
            student=str(tmp_path / "base"),
            corpus=str(world / "corpus.parquet"),
            image_root=str(world),
            out=str(tmp_path / "student"),
            steps=STEPS,
            batch=4,
            lr=1e-3,
            warmup=2,
            lm_conditioned=0.5,
            swaps=0.7,
            exchanges=0.3,
            embedding_lr=2.0,
            beta2=0.98,
            clip_norm=1.0,
            prefix="",
            threads=1,
        )
    )
    assert list(losses[0]) == ["itc", "itm", "lm", "lm_conditioned"]
    compare("distillation", losses)


def test_critic(world, tmp_path, monkeypatch):
    examples = []
    for number, row in enumerate(read_parquet(world / "corpus.parquet", CORPUS).to_pylist()):
        regions = [Region(r["id"], tuple(r["box"]), r["label"]) for r in row["references"]]
        label = dict(accept=number % 3 > 0, qa_score=number / 8, rationale_score=1 - number / 8)
        examples.append(critic_example(row["image"], regions, row, label))
    student().save(tmp_path / "base")
    losses = recorded(monkeypatch, critic_training, "critic_loss", "critic")
    critic_training.train(
        critic_training.CriticConfig(
            student=str(tmp_path / "base"),
            examples=str(critic_training.write_examples(examples, tmp_path / "examples.parquet")),
            image_root=str(world),
            out=str(tmp_path / "critic"),
            steps=STEPS,
            batch=4,
            lr=1e-3,
            warmup=2,
            swaps=0.3,
            shuffles=1,
            beta2=0.98,
            clip_norm=1.0,
            threads=1,
        )
    )
    compare("critic", losses)


@pytest.mark.parametrize("kind", ["opt", "t5"])
def test_region_captioner(tmp_path, monkeypatch, kind):
    model = CAPTIONER.save_blip2(kind, tmp_path / kind, taught=False)
    boxes = CAPTIONER.save_boxes(tmp_path)
    losses = recorded(monkeypatch, captioning, "caption_loss")
    captioning.train(
        CAPTIONER.training_config(
            model, boxes, tmp_path / "captioner", steps=STEPS, lr=1e-3, warmup=2
        )
    )
    compare(f"region_captioner_{kind}", losses)


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_generative_student(world, tmp_path, monkeypatch, kind):
    parts = dict(language_model=str(world / "vicuna"), projection=str(world / "minigpt4.pth"))
    losses = recorded(monkeypatch, GenerativeStudent, "loss")
    told = GENERATIVE.training_config(
        world, tmp_path / "s", steps=STEPS, lr=1e-3, **(parts if kind == "llama" else {})
    )
    generative.train(told)
    compare(f"generative_{kind}", losses)
