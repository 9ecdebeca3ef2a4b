"""Letters and marks folded to the plain ones that a grammar knows, each with its place in the text.

Full widths, digits of any script, brackets of any shape become ASCII; what is not to be seen
(zero-width marks, emphasis, tags of HTML) goes; entities and escapes become what they stand for.
"""

import html
import re
import unicodedata
from functools import cache

_DASHES = {c: "-" for c in "‐‑‒–−⁃﹣－"} | {c: "~" for c in "—―〜∼～"}
_TABLE = _DASHES | {c: '"' for c in "“”„‟″"} | {c: "'" for c in "‘’‚‛′`´"}
_TABLE |= {c: "<" for c in "«‹〈《⟨⟪〈"} | {c: ">" for c in "»›〉》⟩⟫〉"}
_TABLE |= {"|": ";", "¦": ";", "、": ",", "،": ",", "⁄": "÷", "\u2800": " ", "\u3164": " "}
_TABLE |= dict.fromkeys("*`\\", "")
_TABLE |= {"·": ",", "•": ",", "°": "o"} | dict(zip("еоарсіх", "eoapcix", strict=True))  # Cyrillic
_TAGS = "b|i|u|em|strong|span|sup|sub|code|mark|small|a|font|kbd|tt"
_TOKEN = re.compile(
    r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8});|\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|%5[bd]"
    r"|\\[nrt](?![a-z])"
    rf"|<(?P<tag>/?(?:{_TAGS}))(?:\s[^<>]{{0,80}})?>"
    r"|<(?P<space>/?(?:br|p|div)\s?/?)>"
    r"|<(?P<close>/)?(?P<word>region|ref|box|bbox|obj|object|id|person|mention)>"
    r"|(?P<key>[0-9])\ufe0f?\u20e3|.",
    re.DOTALL | re.IGNORECASE,
)
_FOLDED_AWAY = re.compile(r"[^\x00-\x7f]|[&\\*`|<%]")


@cache
def _plain(character: str) -> str:
    """A character as the grammar knows it: lower case, "[7]" for a 7 in a circle, "" for none."""
    if character in _TABLE:
        return _TABLE[character]
    if character.isascii():
        return character.lower() if character.isprintable() or character.isspace() else ""
    category = unicodedata.category(character)
    if character.isspace() or category[0] == "Z":
        return " "
    if category in ("Cf", "Mn", "Me", "Cc", "Cn", "Co", "Cs"):
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    number, parts = unicodedata.numeric(character, None), unicodedata.decomposition(character)
    if number is not None and number == int(number) and number >= 0:
        if parts.startswith("<circle>") or category == "No" and not parts:
            return f"[{int(number)}]"
        if category == "Lo":
            return str(int(number))
    decomposed = unicodedata.normalize("NFKD", character)
    if decomposed != character:
        return "".join(map(_plain, decomposed))
    if category in ("Ps", "Pe"):
        return "[" if category == "Ps" else "]"
    return character.lower()


def folded(text: str) -> tuple[str, list[tuple[int, int]]]:
    """A text in plain characters, and from where to where in the text each of them stood.

    >>> folded("［７］")
    ('[7]', [(0, 1), (1, 2), (2, 3)])
    """
    if not _FOLDED_AWAY.search(text):
        return text.lower(), [(place, place + 1) for place in range(len(text))]
    plain_text, places = [], []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if len(token) == 1:
            plain = _plain(token)
        elif match["key"]:
            plain = f"[{match['key']}]"
        elif match["tag"]:
            plain = ""
        elif match["word"]:
            plain = "" if match["close"] else "region "
        elif match["space"] or token[1] in "nrt":
            plain = " "
        elif token[0] == "&":
            plain = "".join(map(_plain, html.unescape(token)))
        else:
            plain = "".join(map(_plain, chr(int(token[1:].strip("uUxX"), 16))))
        plain_text.append(plain)
        places.extend([match.span()] * len(plain))
    return "".join(plain_text), places
