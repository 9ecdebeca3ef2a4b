"""A call under way: what is asked, what the cache has of it, and what each reply was worth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import time

from lskd_nb.teacher.budget import Budget
from lskd_nb.teacher.cache import ResponseCache
from lskd_nb.teacher.dialect import Dialect
from lskd_nb.teacher.parsing import TRIPLES_FORM, ReplyForm, Worth, triples_and_rejects
from lskd_nb.teacher.prompts import Prompt
from lskd_nb.teacher.requests import (
    TeacherReport,
    TeacherSettings,
    encoded,
    most_tokens,
    request_body,
    request_key,
)

TELL_EVERY = 0.5  # seconds

Progress = Callable[[TeacherReport, int], None]
Reader = Callable[[Prompt, str, dict | None, str], Worth]


@dataclass(frozen=True)
class Request:
    """A request as it is sent, and the most tokens that it can have: one for each byte of text,
    and a picture's.
    """

    body: bytes
    tokens: int


@dataclass
class SamplingJob:
    """A call under way: its prompts, what is missing, what each prompt's reply was worth.

    ``form`` is what replies are asked to be, ``read`` makes rows and rejects of them.
    """

    prompts: Sequence[Prompt]
    settings: TeacherSettings
    cache: ResponseCache
    on_progress: Progress
    budget: Budget = field(default_factory=Budget)
    form: ReplyForm = TRIPLES_FORM
    read: Reader = triples_and_rejects
    dialect: Dialect = field(default_factory=Dialect)
    report: TeacherReport = field(default_factory=TeacherReport)
    begin: float = field(default_factory=time)
    missing: dict[str, int] = field(default_factory=dict)  # request key -> a prompt that makes it
    places: dict[str, list[int]] = field(default_factory=dict)  # request key -> its prompts
    worth: dict[int, Worth] = field(default_factory=dict)  # by prompt
    unfinished: dict[str, dict] = field(default_factory=dict)  # what came before of those missing
    readable: bool = False  # something that came could be read
    _told: float = 0.0

    def look_up(self) -> None:
        """Find out what the cache has, and what that has cost."""
        for place, prompt in enumerate(self.prompts):
            try:
                key = request_key(prompt, self.settings, self.form)
            except ValueError as error:  # a picture that can't be read: the others can
                self.report.not_sent += 1
                self.count({place: self.read(prompt, "", no_picture(error), self.settings.model)})
                continue
            self.places.setdefault(key, []).append(place)
        for key, places in self.places.items():
            reply = self.cache.get(key)
            if reply is None:
                self.missing[key] = places[0]
                if before := self.cache.unfinished(key):
                    self.unfinished[key] = before
                    self._spent_before(before)
            else:
                self._spent_before(reply)
                self.report.cached += 1
                self.count(self.weighed(key, reply)[0])

    def _spent_before(self, reply: dict) -> None:
        spent, told = spent_tokens(reply), self.report.earlier_tokens
        self.budget.paid += self.budget.price.of(spent)
        self.report.earlier_tokens = (told[0] + spent[0], told[1] + spent[1])

    def request(self, key: str) -> Request | None:
        """As it is sent; None where its picture can't be drawn, and it has ended."""
        prompt = self.prompts[self.missing[key]]
        try:
            body = encoded(request_body(prompt, self.settings, self.dialect, self.form))
        except ValueError as error:
            self.arrived(key, no_picture(error))
            return None
        if not prompt.picture:
            return Request(body, len(body))
        return Request(body, sum(most_tokens(prompt, self.settings, self.dialect, self.form)))

    def worst(self, tokens: int) -> float:
        return self.budget.price.worst(tokens, self.settings.max_tokens)

    def weighed(self, key: str, reply: dict) -> tuple[dict[int, Worth], dict]:
        """What a reply is worth to every prompt that asked for it, and as what it is kept.

        Where it is no answer, what came before may be worth more; what all of them have cost stays
        with the one that is kept.
        """
        found, before = self._read(key, reply), self.unfinished.get(key)
        if before is None:
            return found, reply
        if "usage" not in reply:
            return self._read(key, before), before
        reply = reply | {"earlier": spent_tokens(before)}
        found_before = self._read(key, before)
        if not answered(found) and _triples(found_before) > _triples(found):
            return found_before, before | {"usage": [0, 0], "earlier": spent_tokens(reply)}
        return found, reply

    def _read(self, key: str, reply: dict | None) -> dict[int, Worth]:
        return {
            place: self.read(self.prompts[place], key, reply, self.settings.model)
            for place in self.places[key]
        }

    def count(self, worth: dict[int, Worth]) -> None:
        self.worth |= worth
        for one in worth.values():
            self.readable |= one.readable
            self.report.triples += len(one.rows)
            self.report.respelled += one.respelled
            for reject in one.rejects:
                self.report.rejects[reject["reason"]] = (
                    self.report.rejects.get(reject["reason"], 0) + 1
                )

    def arrived(self, key: str, reply: dict, worth: dict[int, Worth] | None = None) -> None:
        """A request has ended: with a reply that is stored by now, with an error, or unsent."""
        report = self.report
        if "unsent" in reply:
            report.not_sent += 1
        elif "error" in reply:
            report.failed += 1
        else:
            report.requests += 1
            report.prompt_tokens += reply["usage"][0]
            report.completion_tokens += reply["usage"][1]
        self.count(self.weighed(key, reply)[0] if worth is None else worth)
        self.tell()

    def tell(self, now: bool = False) -> None:
        """Tell ``on_progress`` how far it is, unless that was a moment ago."""
        self.report.usd, self.report.seconds = self.budget.spent, time() - self.begin
        if now or time() - self._told >= TELL_EVERY:
            self._told = time()
            self.on_progress(self.report, len(self.places))


def no_picture(error: ValueError) -> dict:
    """In place of the reply to a request whose picture can't be read."""
    return {"unsent": "no picture", "words": str(error)}


def spent_tokens(reply: dict) -> list[int]:
    """[input, output] tokens of a reply and of those before it that were no answers."""
    return [a + b for a, b in zip(reply["usage"], reply.get("earlier", (0, 0)), strict=True)]


def _triples(worth: dict[int, Worth]) -> int:
    return sum(len(one.rows) for one in worth.values())


def answered(worth: dict[int, Worth]) -> bool:
    return all(one.answered for one in worth.values())
