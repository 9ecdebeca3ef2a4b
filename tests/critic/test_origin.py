"""Where scores come from: a critic trained here, a folder, the reference's file, or none."""

import json

import pyarrow as pa
import pytest
import torch

from lskd_nb.critic import origin, scoring
from lskd_nb.critic.model import HEADS, Critic, Drawing, load_critic
from lskd_nb.mini.pretraining.base import fresh_student
from lskd_nb.records import SCORES, read_parquet
from lskd_nb.students.lavis_layout import to_lavis


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A critic's file as LAVIS saves it, without what was frozen; the base that has it, as a
    folder; and the critic itself.
    """
    folder = tmp_path_factory.mktemp("published")
    sizes = dict(hidden=32, layers=2, vision_width=24, vision_layers=1, image_size=32)
    student = fresh_student(1, **sizes)
    student.save(folder / "base")
    torch.manual_seed(5)
    critic = Critic(student, 32, Drawing(5, 0.6))
    with torch.no_grad():
        for name, weight in critic.named_parameters():
            if ".itm_head." in name or name.startswith(("qa_head.", "rationale_head.")):
                weight.add_(torch.randn_like(weight))
    critic.accept_head.load_state_dict(student.blip2.itm_head.state_dict())
    theirs = to_lavis(student.state_dict(), clip=False)
    frozen = ("visual_encoder.", "Qformer.cls.", "Qformer.bert.embeddings.word_embeddings.", "temp")
    theirs = {k: v.clone() for k, v in theirs.items() if not k.startswith(frozen)}
    for ours, name in (("qa_head.", "qa_head."), ("rationale_head.", "r_head.")):
        for key, weight in critic.state_dict().items():
            if key.startswith(ours):
                theirs[name + key.removeprefix(ours)] = weight.clone()
    torch.save({"model": theirs, "epoch": 3}, folder / "checkpoint_best.pth")
    return folder, theirs, critic.eval()


def test_the_released_layout_becomes_a_critic_once(published, tmp_path):
    folder, theirs, critic = published
    told = ("checkpoint_best.pth", tmp_path, folder)
    with pytest.raises(FileNotFoundError, match="run notebook 03 with this `critic` first"):
        origin.critic_folder(*told)
    base = str(folder / "base")
    found = origin.bring_critic(*told, base, drawing=critic.drawing)
    assert found == tmp_path / "critic" == origin.critic_folder(*told)
    loaded, wanted = load_critic(found), critic.state_dict()
    assert loaded.drawing == Drawing(5, 0.6)
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, wanted[name]), f"{name} is not the file's"
    before = (found / HEADS).stat().st_mtime_ns
    origin.bring_critic(*told, base, drawing=critic.drawing)
    assert (found / HEADS).stat().st_mtime_ns == before, "it is converted once"
    torch.save({"model": theirs}, folder / "other.pth")
    origin.bring_critic("other.pth", tmp_path, folder, base)
    with pytest.raises(FileNotFoundError, match="is not converted from .*checkpoint_best.pth"):
        origin.critic_folder(*told)


def test_a_file_without_a_critics_heads_is_named_and_nothing_half_is_left(published, tmp_path):
    folder, theirs, _ = published
    torch.save(
        {k: v for k, v in theirs.items() if not k.startswith("r_head.")}, folder / "half.pth"
    )
    with pytest.raises(ValueError, match="half.pth is no critic .*rationale_head.0.bias"):
        origin.bring_critic("half.pth", tmp_path, folder, str(folder / "base"))
    assert list(tmp_path.iterdir()) == []


def test_folders_names_and_none(tiny_models, tmp_path, monkeypatch):
    assert origin.critic_folder("none", tmp_path, tmp_path) is None
    assert origin.critic_folder("critic", tmp_path, tiny_models) == tiny_models / "critic"
    with pytest.raises(FileNotFoundError, match="train the critic first"):
        origin.critic_folder("train", tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match="lskd has no critic_heads.* expected a critic's"):
        origin.critic_folder("student/lskd", tmp_path, tiny_models)
    with pytest.raises(FileNotFoundError, match="gone.pth is not there"):
        origin.critic_folder("gone.pth", tmp_path, tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="critic is 'a/b/c'.*expected 'train', 'none'"):
        origin.critic_folder("a/b/c", tmp_path, tmp_path)
    assert origin.told_of("/home/ada/models/critic") == "critic" and origin.told_of("a/b") == "a/b"


def test_no_scores_are_nulls(tmp_path):
    scores = scoring.no_scores(pa.table({"triple_id": ["a", "b"]}), tmp_path / "s.parquet")
    assert read_parquet(tmp_path / "s.parquet", SCORES).equals(scores)
    assert json.loads(scores.to_pandas().isna().sum().to_json()) == dict(
        triple_id=0, score=2, qa_score=2, rationale_score=2
    )
