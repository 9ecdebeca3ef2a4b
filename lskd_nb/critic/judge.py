"""An LLM as judge, beside the trained critic: marks by a short rubric, asked through the teacher's
client with its cache, budget and checks.

The rubric is that of the labels (LSKD, section 3.2): does the triple point at the right region, is
the answer correct, does the rationale support it. The judge reads the image's verbalization and
never sees the image, so it can't find what a verbalizer got wrong; the critic looks.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from lskd_nb.records import VERBALIZATIONS, read_parquet
from lskd_nb.regions import LocatedImage
from lskd_nb.teacher.generate import generate_triples
from lskd_nb.teacher.parsing import ReplyForm, Worth, parse_reply, validated
from lskd_nb.teacher.prompts import TEMPLATES, Prompt, context_text
from lskd_nb.teacher.requests import TeacherReport, TeacherSettings

AT_ONCE = 8  # triples of one image in a request
LOWEST, HIGHEST, ACCEPTED = 1, 5, 4  # marks; accepted is what has this much of each
MARKS = ("pointing", "correct", "supported")
FORM = ReplyForm("verdicts", {"number": "integer"} | dict.fromkeys(MARKS, "integer"))
RESAMPLES = 400
REJECTS_FILE = "rejects_judge.parquet"  # beside the cache: triples without a verdict, and why


class Verdict(BaseModel):
    """A judge's marks for the triple of this number in its request, from 1 on."""

    model_config = ConfigDict(extra="ignore")
    number: int = Field(ge=1)
    pointing: int = Field(ge=LOWEST, le=HIGHEST)
    correct: int = Field(ge=LOWEST, le=HIGHEST)
    supported: int = Field(ge=LOWEST, le=HIGHEST)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag(cls, value: object) -> object:
        if isinstance(value, bool):
            raise PydanticCustomError("bool", "true is no mark")
        return value

    @property
    def score(self) -> float:
        """From near 0 to 1, the product of the marks' shares: one weak mark spoils a triple.

        >>> Verdict(number=1, pointing=5, correct=5, supported=4).score
        0.8
        """
        return round(float(np.prod([getattr(self, m) / HIGHEST for m in MARKS])), 4)

    @property
    def accept(self) -> bool:
        return all(getattr(self, mark) >= ACCEPTED for mark in MARKS)


@dataclass(frozen=True)
class Judged:
    """``verdicts`` by triple_id, REJECTS rows for triples without one, and the client's report."""

    verdicts: dict[str, Verdict]
    rejects: list[dict]
    report: TeacherReport


def judge_triples(
    triples: Iterable[Mapping],
    images: Mapping[str, LocatedImage],
    lines: Iterable[Mapping],
    settings: TeacherSettings,
    cache_path: str | Path,
) -> Judged:
    """Ask for verdicts on TRIPLES rows; ``lines`` are rows of records.VERBALIZATIONS.

    Raises as ``generate_triples`` does.
    """
    said: dict[str, list[Mapping]] = {}
    for line in lines:
        said.setdefault(line["image_id"], []).append(line)
    of: dict[str, list[Mapping]] = {}
    for triple in triples:
        of.setdefault(triple["image_id"], []).append(triple)
    prompts, asked = [], {}
    for image_id, own in of.items():
        for start in range(0, len(own), AT_ONCE):
            part = own[start : start + AT_ONCE]
            prompt = judge_prompt(images[image_id], said.get(image_id, []), part, start)
            prompts.append(prompt)
            asked[image_id, prompt.name] = [triple["triple_id"] for triple in part]
    rows, rejects, report = generate_triples(
        prompts,
        settings,
        cache_path,
        rejects_file=Path(cache_path).with_name(REJECTS_FILE),
        form=FORM,
        read=_reader(asked),
    )
    return Judged({row["triple_id"]: row["verdict"] for row in rows}, rejects, report)


def judge_prompt(
    image: LocatedImage, lines: Sequence[Mapping], triples: Sequence[Mapping], start: int = 0
) -> Prompt:
    """The request for verdicts on triples of one image, which are numbered from 1 on."""
    system = (TEMPLATES / "judge.txt").read_text(encoding="utf-8").strip()
    numbered = [
        f"{number}. Question: {t['question']} Answer: {t['answer']} Rationale: {t['rationale']}"
        for number, t in enumerate(triples, 1)
    ]
    told = "\n".join([context_text(image, lines), "", "Triples:", *numbered])
    messages = ({"role": "system", "content": system}, {"role": "user", "content": told})
    offered = tuple(region.id for region in image.regions)
    digest = hashlib.sha256(system.encode()).hexdigest()[:8]
    return Prompt(image.image_id, "judge", offered, messages, f"judge_{start}-{digest}")


def _reader(
    asked: Mapping[tuple[str, str], list[str]],
) -> Callable[[Prompt, str, dict | None, str], Worth]:
    """What makes rows of a reply: a verdict for each triple that was asked about, and once."""

    def read(prompt: Prompt, key: str, reply: dict | None, model: str) -> Worth:
        ids, parsed = asked[prompt.image_id, prompt.name], parse_reply(reply, FORM)
        found: dict[str, Verdict] = {}
        disputed: set[str] = set()  # by two verdicts on one triple
        wrong = [parsed.reason] if parsed.reason else []
        for item in parsed.items:
            verdict = _checked(item, len(ids))
            if isinstance(verdict, str):
                wrong.append(verdict)
            elif found.setdefault(one := ids[verdict.number - 1], verdict) != verdict:
                disputed.add(one)
                wrong.append("a triple is judged twice")
        found = {one: verdict for one, verdict in found.items() if one not in disputed}
        reason = "; ".join(dict.fromkeys(wrong)) or "the judge passed it over"
        rejects = [
            dict(stage="judge", record=one, reason=reason, detail=str((reply or {}).get("text")))
            for one in ids
            if one not in found
        ]
        rows = [dict(triple_id=one, verdict=verdict) for one, verdict in found.items()]
        return Worth(rows, rejects, 0, parsed.answered, bool(parsed.items))

    return read


def _checked(item: object, number: int) -> Verdict | str:
    verdict = validated(Verdict, item)
    if isinstance(verdict, str) or verdict.number <= number:
        return verdict
    return "a triple is judged that was not asked about"


# ------------------------------------------------------------------------------ beside the critic


def agreement_with_people(
    labels: Sequence[bool], scores: Sequence[float], accepts: Sequence[bool], images: Sequence[str]
) -> dict[str, dict[str, float]]:
    """How well scores rank what people accept (``auc``), and how far verdicts agree with theirs
    beyond chance (``kappa``, Cohen's), each with a 95% interval, images resampled.

    All are of the same triples, in one order. A resample in which people say one thing alone has
    neither figure and is left out.
    """
    from sklearn.metrics import cohen_kappa_score, roc_auc_score

    given = np.asarray(labels, bool), np.asarray(scores, float), np.asarray(accepts, bool)
    groups = [np.flatnonzero(np.asarray(images) == one) for one in sorted(set(images))]
    rng = np.random.default_rng(0)

    def figures(rows: np.ndarray) -> tuple[float, float] | None:
        people, score, accept = (values[rows] for values in given)
        if people.all() or not people.any():
            return None
        return roc_auc_score(people, score), cohen_kappa_score(people, accept)

    whole = figures(np.arange(len(given[0]))) or (np.nan, np.nan)
    drawn = [
        figures(np.concatenate([groups[g] for g in rng.integers(len(groups), size=len(groups))]))
        for _ in range(RESAMPLES)
    ]
    found = np.array([one for one in drawn if one is not None]).reshape(-1, 2)
    bounds = np.percentile(found, [2.5, 97.5], axis=0) if len(found) else np.full((2, 2), np.nan)
    return {
        name: dict(
            mean=float(whole[place]),
            low=float(bounds[0, place]),
            high=float(bounds[1, place]),
            n=len(given[0]),
            clusters=len(groups),
        )
        for place, name in enumerate(("auc", "kappa"))
    }


def judge_held_out(
    triples: Sequence[Mapping],
    images: Mapping[str, LocatedImage],
    folder: Path,
    settings: TeacherSettings,
) -> Judged:
    """Verdicts on TRIPLES rows, from the verbalizations in a run's folder, where they are kept.

    Raises as ``judge_triples`` does.
    """
    said = read_parquet(folder / "verbalizations.parquet", VERBALIZATIONS)
    own = pc.is_in(said["image_id"], pa.array({t["image_id"] for t in triples}, pa.string()))
    lines = said.filter(own).to_pylist()
    return judge_triples(triples, images, lines, settings, folder / "judge_cache.sqlite")


def beside_critic(
    judged: Judged,
    labels: Mapping[str, bool],
    scores: Mapping[str, float],
    triples: Sequence[Mapping],
    keep: float,
) -> dict[str, dict[str, object]]:
    """A row for the critic and one for the judge, of the triples that both have judged: AUC and
    kappa with their intervals, how many, and USD for each that is kept of a share ``keep``.

    ``scores`` are the critic's probabilities; it accepts from one half on.
    """
    both = [t for t in triples if t["triple_id"] in judged.verdicts]
    ids = [t["triple_id"] for t in both]
    verdicts = [judged.verdicts[one] for one in ids]
    found = {
        "critic": ([scores[one] for one in ids], [scores[one] >= 0.5 for one in ids], 0.0),
        "judge": (
            [v.score for v in verdicts],
            [v.accept for v in verdicts],
            usd_per_kept(judged.report.usd, len(ids), keep),
        ),
    }
    rows = {}
    for name, (ranked, accepts, usd) in found.items():
        told = agreement_with_people(
            [labels[one] for one in ids], ranked, accepts, [t["image_id"] for t in both]
        )
        rows[name] = {
            figure: f"{of['mean']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"
            for figure, of in told.items()
        } | {"triples": len(ids), "USD per kept triple": round(usd, 6)}
    return rows


def usd_per_kept(usd: float, judged: int, keep: float) -> float:
    """What a kept triple costs where a share ``keep`` of all that are judged is kept."""
    return usd / (judged * keep) if judged else float("nan")
