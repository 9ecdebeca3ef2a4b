"""How a teacher may spell the mention of a region, and what to make of it.

Asked for ``[0]`` or ``[0, 1]``, small models write ``[person2]``, ``region 0``, ``(0)``, ``[1-3]``.
What can be read becomes the spelling asked for; what cannot is named, so that a triple goes rather
than point at a region that nobody was shown. Letters and marks are folded first (widths, digits of
any script, invisible characters, emphasis); then one grammar of lists of numbers reads them, in
brackets or after a word such as "region", "person", "box", "id", "dog".

What is English stays: shirt and bus numbers ("number 7", "No. 10"), measures and ages ("a person
7 feet tall"), words in round brackets ("(about 3 meters)"). A number alone in round brackets is
a mention, as is a number stuck to a word ("chair3"). "[0]-[3]" and "[0] through [3]" stay two
mentions, and are unreadable if a region between them was not offered. A number with no word or
bracket is read beside a mention ("[0] and 7 are") and in few other places.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from lskd_nb.regions import MENTION, mentions
from lskd_nb.teacher.characters import folded

LONGEST_NUMBER = 9  # digits; beyond it nothing is read
LONGEST_RANGE = 100  # regions
PASSES = 3  # what is rewritten may stand beside what is readable only then: "region #(0)"


@dataclass(frozen=True)
class Spelling:
    """A text as it is kept, and the regions it mentions, in order of first appearance.

    ``changed`` counts the mentions that were spelled otherwise. ``unreadable`` is the first mention
    that could not be read, as written; the text is then as it came.
    """

    text: str
    changed: int
    regions: tuple[int, ...]
    unreadable: str | None


def normalized(text: str, offered: Collection[int]) -> Spelling:
    """A text with every mention spelled ``[0]`` or ``[0, 1]``.

    Regions are returned whether they were offered or not: -1 too, which stays as written. A number
    that is perhaps no mention ("7 is here") is unreadable if no region of that number was offered,
    and is left alone otherwise.

    >>> normalized("Why does Region 0's dog see (person 1)?", offered=[0, 1])
    Spelling(text="Why does [0]'s dog see [1]?", changed=2, regions=(0, 1), unreadable=None)
    >>> normalized("It helps [0 and 7].", offered=[0, 1]).regions
    (0, 7)
    >>> normalized("It helps [the 7th].", offered=[0, 1]).unreadable
    '[the 7th]'
    """
    rest = _CANONICAL.sub("\0", text)
    if not _UNUSUAL.search(rest) and not _naming(rest.lower()):
        found = mentions(text) if len(rest) < len(text) else ()
        return Spelling(text, 0, tuple(found), None)
    first = read = _Reader(text, frozenset(offered)).read()
    for _ in range(PASSES):
        if read.unreadable is not None or not read.changed:
            break
        read = _Reader(read.text, frozenset(offered)).read()
    if read.unreadable is None and not read.changed:
        return Spelling(read.text, first.changed, read.regions, None)
    unread = read.unreadable if read.unreadable and read.unreadable in text else text
    return Spelling(text, 0, first.regions, unread)


_UNITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"]
_TEENS += ["seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = {word: value for value, word in enumerate(["zero", *_UNITS, *_TEENS])}
_VALUES |= {word: 10 * value for value, word in enumerate(_TENS, 2)}
_SMALL, _ROUND = "|".join(["zero", *_UNITS, *_TEENS]), "|".join(_TENS)
_WORDED = rf"(?<![a-z])(?:(?:{_ROUND})(?:[-\s](?:{'|'.join(_UNITS)}))?|{_SMALL})(?![a-z])"
_NUMBER = rf"(?:\d++|{_WORDED})"

_SURE = r"(?:sub-?)?regions?|(?:bounding[\s-]+|b)box(?:es)?|rois?|ids?"
_PEOPLE = (
    "persons?|people|individuals?|man|men|woman|women|boys?|girls?|child|children|kids?|guys?"
    "|lady|ladies"
)
_THINGS = (
    "objects?|box(?:es)?|entity|entities|instances?|dogs?|cats?|horses?|cows?|sheep|birds?"
    "|elephants?|bears?|zebras?|giraffes?|animals?|cars?|trucks?|bikes?|bicycles?|motorcycles?"
    "|boats?|chairs?|couch|bench|cups?|bottles?|bowls?|plates?|umbrellas?|bags?|handbags?"
    "|backpacks?|suitcases?|hats?|trees?|items?|subjects?|characters?|segments?|masks?|detections?"
    "|crops?|patch|areas?|zones?|figures?|references?|labels?|index|regs?|refs?|bbs?"
)
_KNOWN = rf"(?:{_SURE}|{_PEOPLE}|{_THINGS}|the)"
_NAMED = r"(?:numbers?|numbered|nos?\b\.?|nr\b\.?|num\b\.?|ids?\b|index\b|labell?ed|marked|tagged)"
_LINK = rf"(?:[_-]|[\s#:=\"'.]*+(?:{_NAMED}[\s#:=\"'.]*+)*+)"
_RANGE = (
    r"\s*+(?:-{1,3}|~|,?\s*+\.{2,}\s*+,?"
    r"|\b(?:up\s+to|to|through|thru|until|till)(?=[\s\d]))\s*+"
)
_JOIN = r"\s*+(?:(?:[,;&/+]|(?:and|or|plus|also|then|as well as|along with)(?![a-z]))\s*+)++"


def _list(item: str, loose: bool = False) -> re.Pattern:
    apart = r"|\s+" if loose else ""
    return re.compile(rf"{item}(?:(?:{_RANGE}|{_JOIN}{apart}){item})*+")


_KNOWN_ITEM = rf"(?:(?:the\s+)?{_KNOWN}{_LINK}|#\s*)?{_NUMBER}(?![\da-z])"
_ANY_ITEM = rf"(?:{_KNOWN_ITEM}|(?:the\s+)?[a-z]+{_LINK}\d++(?![\da-z]))"
_ASIDE = re.compile(r"(?:and|or|with|see|also|namely|i\.e\.,?|nos?\.|numbers?)\s++")
_IN_ROUND, _IN_SQUARE = _list(_KNOWN_ITEM, loose=True), _list(_ANY_ITEM, loose=True)
_AFTER_WORD = _list(rf"#?{_NUMBER}")
_PARTS = re.compile(rf"(?P<range>{_RANGE})(?={_ANY_ITEM})|(?P<number>{_NUMBER})")
_ROMAN = re.compile(r"(?=[ivx])x{0,3}(?:ix|iv|v?i{0,3})")

_HEAD = (
    rf"(?:(?:the|this|that)\s+)?"
    rf"(?:(?P<sure>(?:(?:with|whose|having|under)\s+(?:the\s+|an\s+)?(?=ids?\b))?(?:{_SURE}))"
    rf"|(?P<weak>{_PEOPLE}|{_THINGS}))"
)
_NAMES = r"(?:ids?|index|numbers?|labels?)"
_SURE_LINK = re.compile(
    r"(?:[_-]|[\s#:=>\"']*+"
    rf"(?:(?:with|whose|having|of)\s+(?:the\s+|an\s+)?(?={_NAMES}\b))?"
    rf"(?:(?:{_NAMES}(?:\s+(?:is|are|of))?|{_NAMED})(?![a-z])[\s#:=\"']*+)*+"
    r"(?:(?:as|from|between|both)\s+)?)"
)
_WEAK_LINK = re.compile(rf"(?:[_-]|\s*[#:=]\s*|\s*(?:{_NAMED}\s*[#:=]*\s*)*+[\"'#]?)")
_MEASURE = re.compile(
    r"[.:,]\d|%|\s?-?(?:(?:st|nd|rd|th|year|yr|yo|month|week|day|hour|hr|minute|min|second|sec"
    r"|meter|metre|m|cm|mm|km|feet|foot|ft|inch|inche|mile|yard|pound|lb|kg|liter|litre|percent"
    r"|time|degree|dollar|euro|step|pm|am|deep|abreast|people|men|women|children|other|more)s?\b"
    r"|o'clock|(?:and|or)\s+(?:older|under|over|up|younger|more|so)\b)"
)
_GENERAL = re.compile(  # as in "a person one can trust", "one man two others know"
    r"[a-z]+\s+(?:of|by|at|others?|more|men|people)\b|one\s+(?:can|could|would|might|may|must|should|will|has|had|knows?|sees?|uses?|loves?"
    r"|needs?|meets?|wants?|day|by|after|at|another|who)\b"
)
_MANY = re.compile(r"\s+(?!(?:is|was|has|does|as|this|its|his)\b)(?:[a-z]+s|people|men|more)\b")
_VERBS = (
    "is|are|was|were|has|have|had|do|does|did|will|would|can|could|may|might|must|should|look"
    "|looks|seems?|wears?|wants?|stands?|sits?|holds?|smiles?|walks?|talks?|runs?|plays?|feels?"
    "|both|who|together|here|there|in|on|at|to|with|near|from|as|while|when|so|because|each"
)
_ENDS = rf"(?=\s*(?:$|[.!?,;:)\]}}\[\"]|'s)|\s+(?:{_VERBS}|and|or)\b)(?![.:,]\d)"
_FURTHER = re.compile(rf"(?:{_JOIN}|{_RANGE}|\s*+)(?P<number>\d++){_ENDS}")
_ASKED = "is|are|was|were|does|do|did|will|would|can|could|should|has|have|between|both"
_PERHAPS = (
    rf"(?:^|(?<=[.!?]\s)|(?<![a-z])(?:{_ASKED})\s)(?P<perhaps>\d++)"
    rf"(?=\s(?:is|was|has|does|wants|looks|seems|[a-z]+ing|here|there|about\s+to)\b|'s\b"
    r"|\s*(?:and|or|&)\s*\[|\s+and\s+(?P<second>\d++)\s+(?:are|were)\b)"
    r"|(?<![a-z\d.])(?P<beside>\d++)(?=\[)"
    rf"|(?<=[a-z]\s)(?<!is\s)(?<!at\s)(?<!ed\s)(?<!an\s)(?<!of\s)(?<!in\s)"
    r"(?P<before>\d++)(?=\s(?:and|or|&)\s\[)"
)
_ORDINAL = (
    r"(?<![a-z\d])(?P<ordinal>(?:\d+(?:st|nd|rd|th)|first|second|third|fourth|fifth|sixth|seventh"
    r"|eighth|ninth|tenth)\s+(?:region|bbox|bounding\s+box)s?\b)"
)
_STUCK = r"(?<![a-z\d])(?:the\s+)?(?!covid)(?:[a-z]{3,}|tv|bb|[rp])_?(?P<stuck>\d++)(?![a-z\d])"
_START = re.compile(
    rf"(?P<bracket>[\[\](){{}}<>])|{_ORDINAL}|{_PERHAPS}|(?<![a-z]){_HEAD}(?![a-z])|{_STUCK}"
    r"|#\s*(?P<hash>\d++)(?![a-z\d])"
)
_SHIRT = r"(?:jersey|shirt|uniform|number|bib|bus|helmet|fan|dad|mom|car|team|choice|player)s?"
_BEFORE_SHIRT = re.compile(rf"(?:\b{_SHIRT}|\b(?:wear(?:s|ing)?|ranked|our|'s))\s*$")
_AFTER_SHIRT = re.compile(rf"\s+(?:{_SHIRT}\b|on\b)")
_ADJECTIVE = re.compile(r"(?:^|[^a-z])(?:the|a|an|this|that)\s+(?!region)[a-z-]+\s+$")
_SQUARES = re.compile(r"[\[\]]")
_BRACKETS = re.compile(r"[\[\](){}<>]")
_NO_BRACKETS = str.maketrans("(){}<>", "      ")
_BESIDE = " \t\n,.;:#\"'"

_CANONICAL = re.compile(
    r"(?<![\[\\])\[\s*(?:0|[1-9][0-9]{0,8})(?:\s*,\s*(?:0|[1-9][0-9]{0,8}))*\s*\](?!\])"
)
_UNUSUAL = re.compile(r"[^\x00-\x7f’‘“”—…é]|[0-9\[\](){}<>&\\*]|\0\s?(?:-|–|thr)")
_NAMING = ("region", "bbox", "bounding", "roi", "id ", "ids ", "id:", "id-", "id_", "id=", 'id"')
_SURELY = re.compile(r"region|\bids?\b|box|bound|roi")
_COUNTS = ("zero", *_UNITS, "ten", "eleven", "twelve", "thir", "fif", "twen", "for")
_COUNTED = re.compile(rf"\b(?:{_PEOPLE}|{_THINGS})[\s_-]+(?:{'|'.join(_VALUES)})\b")
_BETWEEN = re.compile(rf"({MENTION.pattern})\s*(?:[-–]|through|thru)\s*(?={MENTION.pattern})")


def _naming(words: str) -> bool:
    """Whether words without digits may name a region still: "region seven", "person two"."""
    if any(word in words for word in _NAMING) and _SURELY.search(words):
        return True
    return any(n in words for n in _COUNTS) and _COUNTED.search(words) is not None


_NEAR = re.compile(  # a number that "region" seems to name in words that are not known
    r"(?:[^a-z\d\[\s.!?,;]|\s|[.,](?=\d)){0,12}"
    r"(?:(?:called|named|known|identified|as|nos?\.?|numbers?|is|the)[^a-z\d\[.!?]{1,6}){0,3}"
    rf"(?:\d++|(?:an?\s|one\s)?hundred|(?:{_SMALL})th\b|seventh|first|second|third|fifth)(?![a-z])"
)
_PLURALS = ("people", "men", "women", "children")
_NEGATIVE = re.compile(r"-\s*\d++")
_LABELLED = re.compile(r"(\d++)\s*:\s*[a-z][a-z '-]*+")
_LARGE = re.compile(r"[\s-](?:hundred|thousand)\b")
_THOUSANDS = re.compile(r"(?<!\d)[1-9]\d{0,2},0\d\d(?!\d)")
_TAIL = re.compile(r"(?<!\d)(\d++)\s*$")
_JOINED = re.compile(r"(?:[,;&/+~-]|\b(?:and|or|to))\s*$")
_SINGLE = re.compile(rf"#?{_NUMBER}")


def _value(number: str) -> int | None:
    """A number in digits or words; None where it is too long."""
    if number[0].isdigit():
        digits = number.lstrip("0") or "0"
        return int(digits) if len(digits) <= LONGEST_NUMBER else None
    return sum(_VALUES[word] for word in re.split(r"[-\s]", number))


def _numbers(words: str) -> list[int] | None:
    """The numbers of a list in the grammar, its ranges written out; None for no such list."""
    if _THOUSANDS.search(words):
        return None
    found, end, ranging = [], -1, False
    for part in _PARTS.finditer(words):
        if part["range"]:
            ranging = part.start() == end
            continue
        end, value = part.end(), _value(part["number"])
        if value is None:
            return None
        if ranging:
            if not 0 <= value - found[-1] <= LONGEST_RANGE:
                return None
            found.extend(range(found[-1] + 1, value + 1))
        else:
            found.append(value)
        ranging = False
    return list(dict.fromkeys(found)) or None


class _Unreadable(Exception):
    """A mention that cannot be read; its argument is the mention as written."""


class _Reader:
    """One reading of a text, from left to right."""

    def __init__(self, text: str, offered: frozenset[int]) -> None:
        self.text, self.offered = text, offered
        self.folded, self.places = folded(text)
        self.found: list[tuple[int, int, str | None, list[int]]] = []  # None: as it stands
        self.done = self.mentioned = 0  # of the folded text: what was read, the last mention's end
        self.last_closer = self.folded.rfind(")")

    def read(self) -> Spelling:
        try:
            while match := _START.search(self.folded, self.done):
                self.done = max(self._step(match), match.start() + 1)
            text = self._rewritten()
        except _Unreadable as error:
            return Spelling(self.text, 0, self._regions(), error.args[0])
        changed = sum(new is not None for _, _, new, _ in self.found)
        return Spelling(text, changed, self._regions(), None)

    def _regions(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(n for *_, numbers in self.found for n in numbers))

    def _rewritten(self) -> str:
        parts, end = [], 0
        for start, stop, new, _ in self.found:
            if new is not None:
                parts += [self.text[end:start], new]
                end = stop
        text = "".join(parts) + self.text[end:]
        for match in _BETWEEN.finditer(text):
            last = int(match[1].strip("[] ").split(",")[-1])
            first = int(match[3].split(",")[0])
            if not self.offered.issuperset(range(last, min(first, last + LONGEST_RANGE))):
                raise _Unreadable(match[0])
        if {n for n in self._regions() if n >= 0} != set(mentions(text)):
            raise _Unreadable(self.text)
        return text

    def _step(self, match: re.Match) -> int:
        """What begins at a match, read; returns where to go on."""
        start, end = match.span()
        if match["bracket"]:
            return self._bracket(start)
        if match["ordinal"]:
            self._refuse(start, end)
        unsure = [kind for kind in ("perhaps", "second", "beside", "before") if match[kind]]
        for kind in unsure:
            if _value(match[kind]) not in self.offered:
                self._refuse(*match.span(kind))
        if unsure:
            return end
        if match["stuck"]:
            return self._mention(start, end, _numbers(match["stuck"]))
        if match["hash"]:
            before = self.folded[max(0, start - 20) : start]
            if _BEFORE_SHIRT.search(before) or _AFTER_SHIRT.match(self.folded, end):
                return end
            return self._mention(start, end, _numbers(match["hash"]))
        return self._word(match)

    def _bracket(self, start: int) -> int:
        opener = self.folded[start]
        if opener == "]":
            return self._stray(start)
        if opener in ")}>" or opener == "<" and self.folded[:start][-2:].rstrip()[-1:].isdigit():
            return start + 1
        square = opener == "["
        closer = (_SQUARES if square else _BRACKETS).search(self.folded, start + 1)
        stop = closer.start() if closer else len(self.folded)
        content = self.folded[start + 1 : stop].translate(_NO_BRACKETS)
        closed = closer is not None and closer[0] in ")]}>"
        if not closed and (square or opener == "(" and start > self.last_closer):
            return self._unclosed(start, content)
        grammar = _IN_ROUND if opener == "(" else _IN_SQUARE
        numbers = self._list(content, grammar) if closed else []
        if numbers is None:
            self._refuse(start, stop + 1)
        if numbers and _ASIDE.match(content) and _MEASURE.match(self.folded, stop + 1):
            return start + 1
        if numbers:
            left, right = start, stop + 1
            around = ("[]", opener + {"[": "]", "(": ")", "{": "}", "<": ">"}[opener])
            while (
                left > self.mentioned
                and self.folded[left - 1] + self.folded[right : right + 1] in around
            ):
                left, right = left - 1, right + 1
            return self._mention(left, right, numbers)
        digits = any(map(str.isdigit, content))
        if square and (digits or content.strip() and _ROMAN.fullmatch(content.strip())):
            self._refuse(start, stop + 1)
        near = opener in "{<" and closed and stop - start < 40 and not content[:1].isspace()
        if near and digits:
            self._refuse(start, stop + 1)
        return start + 1

    def _list(self, content: str, grammar: re.Pattern) -> list[int] | None:
        """The numbers of a bracket: [] where it has other words, None where they cannot be read."""
        words = content.strip(_BESIDE)
        if _NEGATIVE.fullmatch(words):
            value = _value(words.lstrip("- "))
            return None if value is None else [-value]
        if labelled := _LABELLED.fullmatch(words):
            words = labelled[1]
        if aside := _ASIDE.match(words):
            words = words[aside.end() :]
        return _numbers(words) if grammar.fullmatch(words) else []

    def _unclosed(self, start: int, content: str) -> int:
        """ "[0 is here": read where the only numbers follow the bracket at once."""
        space = len(content) - len(content.lstrip())
        match = (_IN_SQUARE if self.folded[start] == "[" else _IN_ROUND).match(content, space)
        if match and self.folded[start] == "(" and _MEASURE.match(content, match.end()):
            return start + 1
        stop = start + 1 + (match.end() if match else 0)
        if match and not any(map(str.isdigit, content[match.end() :])):
            if self.folded[stop : stop + 1] in tuple(")}>"):
                stop += 1
            return self._mention(start, stop, _numbers(match[0]))
        if self.folded[start] == "[" and any(map(str.isdigit, content)):
            self._refuse(start, start + 1 + len(content))
        return start + 1

    def _stray(self, stop: int) -> int:
        """ "0]": a bracket that nothing opened."""
        before = self.folded[max(self.done, stop - 40) : stop]
        if tail := _TAIL.search(before):
            start = stop - len(before) + tail.start()
            if _JOINED.search(before[: tail.start()]):
                self._refuse(start, stop + 1)
            return self._mention(start, stop + 1, _numbers(tail[1]))
        return stop + 1

    def _word(self, match: re.Match) -> int:
        """ "region 0", "persons 0 and 1": a list after a word."""
        folded, (start, end) = self.folded, match.span()
        sure, word = match["sure"], match["sure"] or match["weak"]
        place = (_SURE_LINK if sure else _WEAK_LINK).match(folded, end).end()
        relative = match[0].startswith(("with", "whose", "having", "under"))
        plain = relative or not _ADJECTIVE.search(folded[max(0, start - 40) : start])
        if sure and folded[place : place + 1] in tuple("[({<"):
            known, end = len(self.found), self._word_before_bracket(start, place, plain)
            near = _NEAR.match(folded, place) if word.startswith("region") else None
            if near and len(self.found) == known:
                self._refuse(start, near.end())
            return end
        listed = _AFTER_WORD.match(folded, place)
        if not listed:
            roman = _ROMAN.match(folded, place)
            after = roman and folded[roman.end() : roman.end() + 1]
            if sure and roman and roman[0] not in ("", "i") and not after.isalnum():
                self._refuse(start, roman.end())
            if sure and word.startswith("region") and (near := _NEAR.match(folded, end)):
                self._refuse(start, near.end())
            return end
        stop, first = listed.end(), _SINGLE.match(folded, place)[0]
        plural = word.endswith("s") or word in _PLURALS
        if not first[-1].isdigit():
            if _GENERAL.match(folded, place) or not sure and plural:
                return end
            if not sure and not _MEASURE.match(folded, stop):
                self._refuse(start, stop)
        if _MEASURE.match(folded, stop):
            if sure:
                self._refuse(start, stop)
            return stop
        several = len(listed[0]) > len(first) and not plural
        if folded[stop : stop + 1].isalnum() or several and _MANY.match(folded, stop):
            self._refuse(start, stop)
        if _LARGE.match(folded, stop):
            self._refuse(start, stop)
        return self._mention(start if plain else place, stop, _numbers(listed[0]))

    def _word_before_bracket(self, start: int, place: int, plain: bool) -> int:
        while self.folded[place + 1 : place + 2] == self.folded[place]:
            place += 1
        known, end = len(self.found), self._bracket(place)
        if plain and len(self.found) > known:
            _, stop, new, numbers = self.found[known]
            if min(numbers) >= 0:
                new = new or self.text[self.places[place][0] : stop]
                self.found[known] = self.places[start][0], stop, new, numbers
        return end

    def _mention(self, start: int, end: int, numbers: list[int] | None) -> int:
        """Numbers that stand from ``start`` to ``end``, and those that go on behind them."""
        self._note(start, end, numbers)
        while further := _FURTHER.match(self.folded, end):
            start, end = further.span("number")
            self._note(start, end, _numbers(further["number"]))
        return end

    def _note(self, start: int, end: int, numbers: list[int] | None) -> None:
        if numbers is None:
            self._refuse(start, end)
        left, right = self.places[start][0], self.places[end - 1][1]
        if right - left != end - start:  # emphasis that begins inside ends behind it
            right = self.places[end][0] if end < len(self.places) else len(self.text)
        new = f"[{', '.join(map(str, numbers))}]"
        canonical = _CANONICAL.fullmatch(self.text[left:right])
        while left > 0 and self.text[left - 1] == "\\":
            left, canonical = left - 1, None
        self.found.append((left, right, None if canonical or min(numbers) < 0 else new, numbers))
        self.done = self.mentioned = end

    def _refuse(self, start: int, end: int) -> None:
        end = min(end, len(self.places))
        raise _Unreadable(self.text[self.places[start][0] : self.places[end - 1][1]])
