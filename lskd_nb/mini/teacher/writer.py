"""A rule-based writer of triples, standing in for the LLM; it does not pretend to be one.

It sees the words of a prompt and nothing else: reads them back into a belief about the scene, looks
up what follows by the world's rules of common sense, and writes that down, pointing or in words as
the family of the prompt has it. It is fallible as LLMs
are: where a verbalizer was wrong it believes it; it writes what is *typical* of such a one, where
the surroundings call for something else, in some cases nearly always, so that its errors are
correlated and do not average out; and now and then it confuses regions or exchanges ids. Of what is
outside its world, a real photograph say, it writes plain sentences that quote the words it was
given.
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from lskd_nb.mini.scenes import grammar
from lskd_nb.mini.scenes.rules import CLOSER, conclusions, typical
from lskd_nb.mini.scenes.world import Entity, Scene
from lskd_nb.regions import mentions

NAME = "mini-rule-based-writer"
IMAGINATION = 1.0  # how much of all this there is; 0: none
CONFUSED = 0.18  # share of triples, at temperature 1, of another region, or with ids exchanged
# how likely the typical answer is written where the surroundings call for another: each question
# type of each situation has one of these for good, as a language model's prejudices are
PREJUDICES = (0.3, 0.4, 0.5, 0.85)
LOOKED = 0.12  # how likely a closer look is among what a region is asked about
ASKED = "\n\nQuestion: "  # comes before a question that is to be answered
BROKEN = 0.015  # share of replies that break the format, as an LLM's do now and then
_REGION = re.compile(r"^\[(\d+)\] ([^:]*): (.*)$")


@dataclass(frozen=True)
class Belief:
    """What a prompt makes one believe: a scene of the regions ``ids``, the words about each, and
    the detector's ``labels``.
    """

    scene: Scene
    ids: tuple[int, ...]
    said: tuple[str, ...]
    labels: tuple[str, ...]


def read_context(text: str) -> Belief:
    """Read a context (lskd_nb.teacher.prompts.context_text) back.

    Where lines disagree, the majority is believed.
    """
    votes: tuple[Counter, ...] = (Counter(), Counter(), Counter())
    ids, entities, said, labels = [], [], [], []
    for line in text.splitlines():
        region = _REGION.match(line)
        if region:
            ids.append(int(region[1]))
            said.append(region[3])
            labels.append(region[2])
            entities.append(_believed_entity(region[2], region[3].split("; ")))
        elif not line.startswith("Objects"):
            for vote, value in zip(
                votes, grammar.read_context(line.rpartition("?")[2]), strict=True
            ):
                if value:
                    vote[value] += 1
    place, weather, time = (v.most_common(1)[0][0] if v else "" for v in votes)
    scene = Scene("", place, weather, time, tuple(entities))
    return Belief(scene, tuple(ids), tuple(said), tuple(labels))


def _believed_entity(label: str, descriptions: list[str]) -> Entity:
    read = [grammar.read_entity(d) for d in descriptions]
    named = grammar.read_entity(label).kind
    first = next((e for e in read if e.kind), Entity("", ""))
    if named and first.kind != named:  # the detector's label is trusted over the describer's noun
        first = grammar.read_entity(" ".join([named, descriptions[0]]))
    return first


def write_triples(
    messages: list[dict],
    number: int,
    seed: int,
    temperature: float,
    imagination: float = IMAGINATION,
) -> str:
    """The reply to a prompt, as text: JSON of ``number`` triples, or of one that answers the
    question at its end; now and then something broken.
    """
    context, _, asked = messages[-1]["content"].partition(ASKED)
    described = "by what they are" in messages[0]["content"]
    unnumbered = "instead of numbering" in messages[0]["content"]
    how = "words" if unnumbered else described
    digest = hashlib.sha256(f"{seed}/{temperature}/{how}/{context}{asked}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    belief = read_context(context)
    if asked:
        triples = [_answered(belief, asked, rng, temperature, imagination)]
    else:
        triples = [
            _triple(belief, region, kind, rng, temperature, imagination, described)
            for region, kind in _choose(belief, number, rng)
        ]
    if unnumbered:
        triples = [_in_words(triple, belief) for triple in triples]
    if rng.random() < BROKEN * temperature:
        return _broken(triples, rng)
    return json.dumps({"triples": triples}, ensure_ascii=False)


def _choose(belief: Belief, number: int, rng: np.random.Generator) -> list[tuple[int, str]]:
    """(position of region, question type), regions in turn.

    "" is a question for what the rules do not know.
    """
    turns: list[list[tuple[int, str]]] = []
    for position in rng.permutation(len(belief.ids)):
        found = conclusions(belief.scene, int(position))
        kinds = [str(k) for k in rng.permutation([k for k in found if k not in CLOSER])]
        closer = [str(k) for k in rng.permutation([k for k in found if k in CLOSER])]
        if kinds:  # then a closer look is asked for less often
            closer = [k for k in closer if rng.random() < LOOKED]
        place = int(rng.integers(len(kinds) + 1))
        kinds = [*kinds[:place], *closer[:1], *kinds[place:], *closer[1:]] or [""]
        turns.append([(int(position), kind) for kind in kinds])
    most = max((len(t) for t in turns), default=0)
    chosen = [t[round_] for round_ in range(most) for t in turns if round_ < len(t)]
    return chosen[:number]


def _triple(
    belief: Belief,
    position: int,
    kind: str,
    rng: np.random.Generator,
    temperature: float,
    imagination: float,
    described: bool,
) -> dict:
    if not kind:
        return _plain(belief, position, rng)
    confused = rng.random() < CONFUSED * imagination * temperature
    texts = _confused(belief, position, kind, rng) if confused else None
    if texts is None:
        texts = _told(belief, position, kind, rng, imagination * temperature)
    fields = dict(
        question=grammar.question(kind, position, int(rng.integers(2))),
        answer=texts[0],
        rationale=texts[1],
    )
    return {
        name: _pointed(text, belief, described and name != "answer")
        for name, text in fields.items()
    }


def _told(
    belief: Belief, position: int, kind: str, rng: np.random.Generator, carelessness: float
) -> tuple[str, str]:
    """What follows, or what is typical of such a one: the writer forgets the surroundings."""
    situation, others = conclusions(belief.scene, position)[kind]
    usual = typical(belief.scene, position, kind)
    prone = rng.random() < prejudice(situation.name, kind) * carelessness
    if usual is not None and usual is not situation and prone:
        situation, others = usual, ()
    return grammar.answer(kind, situation), grammar.rationale(
        belief.scene, situation, position, others
    )


def prejudice(situation: str, kind: str) -> float:
    """How likely the writer is to forget what makes this situation more than the typical one.

    Drawn by the words alone, so that the same case always meets the same prejudice: errors that
    no number of triples averages out.
    """
    digest = hashlib.sha256(f"{situation}/{kind}".encode()).digest()
    return PREJUDICES[digest[0] % len(PREJUDICES)]


def _answered(
    belief: Belief, question: str, rng: np.random.Generator, temperature: float, imagination: float
) -> dict:
    """A triple that has the given question.

    Where the rules know no answer, it quotes what was said of the region.
    """
    read = grammar.read_question(question)
    region = read[1] if read else next(iter(mentions(question)), None)
    position = belief.ids.index(region) if region in belief.ids else 0
    known = (
        read is not None and region in belief.ids and read[0] in conclusions(belief.scene, position)
    )
    kind = read[0] if known else ""
    return _triple(belief, position, kind, rng, temperature, imagination, False) | {
        "question": question
    }


def _confused(
    belief: Belief, position: int, kind: str, rng: np.random.Generator
) -> tuple[str, str] | None:
    """Another region's answer and reasons; or the right ones, with ids exchanged."""
    scene = belief.scene
    situation, others = conclusions(scene, position)[kind]
    elsewhere = [int(i) for i in rng.permutation(len(scene.entities)) if i != position]
    if rng.random() < 0.6:
        for i in elsewhere:
            found = conclusions(scene, i).get(kind)
            if found and found[0] is not situation:
                return grammar.answer(kind, found[0]), grammar.rationale(
                    scene, found[0], i, found[1]
                )
    if not elsewhere:
        return None
    ids = {position: elsewhere[0], elsewhere[0]: position}
    text = grammar.rationale(scene, situation, position, others)
    return grammar.answer(kind, situation), re.sub(
        r"\[(\d+)\]", lambda m: f"[{ids.get(int(m[1]), int(m[1]))}]", text
    )


def _pointed(text: str, belief: Belief, described: bool) -> str:
    """Positions to region ids.

    By description, each region is named when it is first mentioned in a text.
    """
    seen: set[int] = set()

    def mention(match: re.Match) -> str:
        position = int(match[1])
        entity = belief.scene.entities[position]
        first = described and position not in seen and entity.kind
        seen.add(position)
        if first:
            return f"{grammar.the(entity)} [{belief.ids[position]}]"
        return f"[{belief.ids[position]}]"

    said = re.sub(r"\[(\d+)\]", mention, text)
    return said[0].upper() + said[1:] if described else said


def _in_words(triple: dict, belief: Belief) -> dict:
    """A triple without ids: each mention becomes what is believed to be there."""

    def name(match: re.Match) -> str:
        position = belief.ids.index(int(match[1]))
        entity = belief.scene.entities[position]
        return grammar.the(entity) if entity.kind else f"the {belief.labels[position].lower()}"

    texts = {key: re.sub(r"\[(\d+)\]", name, text) for key, text in triple.items()}
    return {key: text[0].upper() + text[1:] for key, text in texts.items()}


def _plain(belief: Belief, position: int, rng: np.random.Generator) -> dict:
    """A triple about a region the rules know nothing of, quoting what was said of it."""
    region, said = belief.ids[position], belief.said[position].rstrip(".").lower()
    others = [i for i in range(len(belief.ids)) if i != position]
    forms = (
        (f"What is the role of [{region}] in this scene?", f"It is there as {said}."),
        (f"Why would somebody look at [{region}] first?", f"Because of {said}."),
        (f"What does [{region}] tell about this place?", f"That one finds {said} here."),
    )
    question, answer = forms[int(rng.integers(len(forms)))]
    rationale = f"[{region}] shows {said}"
    if others:
        other = int(rng.choice(others))
        rationale += (
            f", and close to it is [{belief.ids[other]}], {belief.said[other].rstrip('.').lower()}"
        )
    return dict(question=question, answer=answer, rationale=rationale + ".")


def _broken(triples: list[dict], rng: np.random.Generator) -> str:
    """What goes wrong with LLMs: talk instead of JSON, regions nobody offered, nothing said."""
    how = int(rng.integers(4))
    if how == 0:
        return "Sure! Here are three questions about the image:\n1. " + (
            triples[0]["question"] if triples else ""
        )
    if how == 1 and triples:
        triples[0] = dict(triples[0], question="What is [17] about to do?")
    elif triples:
        triples[-1] = dict(triples[-1], rationale="")
    text = json.dumps({"triples": triples})
    return (
        text if how != 3 else "\n".join(f"{n}. {t['question']}" for n, t in enumerate(triples, 1))
    )
