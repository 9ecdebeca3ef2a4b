"""However a region is spelled, it is read or refused; English stays as it is."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lskd_nb.regions import mentions
from lskd_nb.teacher.spellings import Spelling, normalized

OFFERED = (0, 1, 2)


def accepted(text: str, offered=OFFERED) -> bool:
    """What a caller does with a spelling."""
    read = normalized(text, offered)
    return read.unreadable is None and set(read.regions) <= set(offered)


@pytest.mark.parametrize(
    ("text", "kept", "regions"),
    [
        ("Why is the region 0 here?", "Why is [0] here?", (0,)),
        ("Region 0's dog barks.", "[0]'s dog barks.", (0,)),
        ("In region [0] it rains.", "In [0] it rains.", (0,)),
        ("The dark region 0 is deep.", "The dark region [0] is deep.", (0,)),
        ("The woman with id 0 runs.", "The woman [0] runs.", (0,)),
        ("regions 0, 1, and 2.", "[0, 1, 2].", (0, 1, 2)),
        ("Regions zero and two", "[0, 2]", (0, 2)),
        ("the region with the id 1", "[1]", (1,)),
        ("region 0 and region 1", "[0] and [1]", (0, 1)),
        ("person 1 and person2 talk", "[1] and [2] talk", (1, 2)),
        ("[person2] runs", "[2] runs", (2,)),
        ("[0 and 1]", "[0, 1]", (0, 1)),
        ("[0-2]", "[0, 1, 2]", (0, 1, 2)),
        ("[0: the man] runs", "[0] runs", (0,)),
        ("[[0]] and (1) and {2}", "[0] and [1] and [2]", (0, 1, 2)),
        ("［０］ and [٢] and ①", "[0] and [2] and [1]", (0, 2, 1)),
        (r"\[0\] runs", "[0] runs", (0,)),
        ("**region 0** or region **1** runs", "**[0]** or [1] runs", (0, 1)),
        ("<|region_0|> sees <region>1</region> too", "[0] sees [1] too", (0, 1)),
        ("[0 runs", "[0] runs", (0,)),
        ("0] runs", "[0] runs", (0,)),
        ("[0] and 1.", "[0] and [1].", (0, 1)),
        ("[01]", "[1]", (1,)),
        ("[\u200b0] sees &#91;1&#93;", "[0] sees [1]", (0, 1)),
        ("#0 smiles", "[0] smiles", (0,)),
    ],
)
def test_what_can_be_read_is_spelled_as_asked_for(text, kept, regions):
    read = normalized(text, OFFERED)
    assert (read.text, read.regions, read.unreadable) == (kept, regions, None)
    assert read.changed >= 1
    assert normalized(kept, OFFERED) == Spelling(kept, 0, tuple(mentions(kept)), None)


NOT_OFFERED = """
[7] [person7] [0_and_7] [1-7] [-1] ［7］ (7) {7} <7> 【7】 （7） 〈7〉 ⟦7⟧ [[7]] "[7" `[7]` \\[7\\]
**[7]** [#7] [id_7] [ID:_7] [0_&_7] [0;7] [0/7] [0|7] [0,_and_7] [0_to_3] [1–7] [0...7] [7.] 7] (7
[seven] [٧] [７] [⑦] [⁷] ⑦ 7️⃣ [07] [VII] [0.7] [½] [0_x7] [{7}] [(7)] [7) [the_7th] [7_people]
region_7 Region_7's regions_0_and_7 regions_0,_1,_and_7 region_number_7 region_no._7 region_#7
region-7 region7 region_seven region_VII region:_7 region_"7" region_**7** the_7th_region
the_seventh_region regions_numbered_0_to_7 the_region_with_id_7 region_7b region_7_people person7
person_7 Person_Seven woman_7 object_7 box_7 bbox_7 bounding_box_7 id_7 dog_7 dog7 #7 <region7>
<|region_7|> <region>7</region> [0][7] [0]-[7] [0]_through_[7] [0]-7 [0]_and_7 [<b>7</b>] [⏎7]
[\u200b7] &#91;7&#93; re\u00adgion\u00a07 [7:_the_man] (person_7) (ID:_7) (0,_7)
region_0_or_region_7 [0]_as_well_as_7 region_0_and_also_7 region_called_7 region_(no._7) region_№_7
region–7 region_~7~ [0]_(or_7) [0]_7 7[0] 7_and_[0]_are %5B7%5D r7 mask_7 Girl_two
<region_id="7"> {"id":_7} [0_and_person_7] [woman_in_red_7] [(0),_7] [0[7]] regions_0_–_7
"""


@pytest.mark.parametrize("spelling", re.split("[ \n]", NOT_OFFERED.strip()))
def test_no_mention_of_a_region_that_was_not_offered_survives(spelling):
    spelling = spelling.replace("_", " ").replace("⏎", "\n")
    for sentence in ("Why is {} here?", "{}", "It helps {}.", "{} smiles at [0]."):
        assert not accepted(sentence.format(spelling)), sentence.format(spelling)


@pytest.mark.parametrize(
    "around", ["[{}]", "({})", "region {}", "[0]-{}", "person{}", "#{}", "[1-{}]"]
)
def test_a_number_of_any_length_is_refused(around):
    assert not accepted(around.format("7" * 5000))


@pytest.mark.parametrize(
    "text",
    [
        "Two people at 3 o'clock, and one of them is first.",
        "A 5-year-old boy with number 7 on the shirt takes the No. 10 bus.",
        "It has [sic] (as usual) a region of its own, about (about 3 meters) there.",
        "A person of 20 years; a person 7 feet tall; a man two meters tall; a man, 30, sits.",
        "3 < 4 and 2 + 2 = 4, 5 > 3 <3 :)",
        "The jersey #7 cost $5, 50% of it, at 10:30 in 2019 or the 1980s.",
        "A person one can trust sees children 5 and older.",
        "[0] and 3 dogs, [ 0,1 ], [2], the man ([0]), the region around [0], the dark region [0].",
        "I’m here — at the café… of “[0]”.",
        "[0] has 2 bags, is over 18, and is the first of 3 children; about 30 (or 35) years old.",
        "[0] plays with [1] and 2 other kids; the car 2 meters away; the people two tables away.",
        "There are 3 people in the region; 2 of them sit at 1st base.",
        "A box of 12 eggs and a 2x4 board from 3 to 5 pm.",
    ],
)
def test_english_and_what_is_spelled_well_stay(text):
    assert normalized(text, OFFERED) == Spelling(text, 0, tuple(mentions(text)), None)


def test_what_is_refused_is_named_and_the_text_is_left_alone():
    text = "(0) is [the 3rd one]."
    assert normalized(text, OFFERED) == Spelling(text, 0, (0,), "[the 3rd one]")
    assert normalized("Is [-1] here?", OFFERED) == Spelling("Is [-1] here?", 0, (-1,), None)
    assert accepted("7 is here, [0].", range(8)) and not accepted("7 is here, [0].")
    assert not accepted("0 and 7 are here, [0].")


# a grammar of spellings, made of other pieces than the module's
BRACKETS = (
    "[]",
    "()",
    "{}",
    "［］",
    "【】",
    "（）",
    "⟦⟧",
    "〔〕",
    "「」",
    "[[ ]]",
    "(( ))",
    "**[ ]**",
    "`[ ]`",
)
SCRIPTS = ("0123456789", "０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗")
PREFIXES = (
    "",
    "#",
    "id ",
    "ID: ",
    "person",
    "person ",
    "Person_",
    "region ",
    "Region #",
    "object ",
)
WORDS = ("region ", "Region ", "regions ", "the region ", "REGION #", "region number ", "region_")
PEOPLE = ("person ", "Person", "people ", "object ", "box ", "woman ", "ids ", "bbox ", "person #")
JOINERS = (", ", ",", " and ", ", and ", " & ", " or ", "/")
PADDING = ("", " ", "\u00a0", "\u200b", "\n")
SENTENCES = (
    "Why is {} here?", "{} is tired.", "It helps {}.", "He sees [0], then {}, and smiles.",
    "{}", "Two people stand near {} at 3 o'clock.", "That is {}'s dog.", "- {}: a cook",
)  # fmt: skip


@st.composite
def spelled(draw, regions: tuple[int, ...]) -> str:
    script = draw(st.sampled_from(SCRIPTS))
    zero = draw(st.sampled_from(("", "", script[0])))
    numbers = [zero + "".join(script[int(d)] for d in str(region)) for region in regions]
    several = draw(st.sampled_from(JOINERS)).join
    if draw(st.booleans()):
        pair = draw(st.sampled_from(BRACKETS))
        left, right = pair if len(pair) == 2 else pair.split(" ")
        pad, prefix = draw(st.sampled_from(PADDING)), draw(st.sampled_from(PREFIXES))
        words = several([prefix + n for n in numbers] if draw(st.booleans()) else numbers)
        return f"{left}{pad}{words}{pad}{right}"
    return draw(st.sampled_from(WORDS + PEOPLE)) + several(numbers)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_spelling_of_the_grammar_is_judged_by_what_was_offered(data):
    several = st.lists(st.integers(0, 12), min_size=1, max_size=3, unique=True)
    regions = tuple(data.draw(several))
    text = data.draw(st.sampled_from(SENTENCES)).format(data.draw(spelled(regions)))
    assert not accepted(text, set(range(13)) - {regions[-1]}), text
    read = normalized(text, range(13))
    assert read.unreadable is None, text
    assert set(regions) <= set(read.regions) <= {0, *regions}, text
    assert set(mentions(read.text)) == set(read.regions)
    again = normalized(read.text, range(13))
    assert (again.text, again.changed, again.regions) == (read.text, 0, read.regions), text


WORDED = (
    "12 region regions person the id and or to one seven 's dog2 &#91; <b> people </b> [0] [0,1]"
)
PIECES = st.sampled_from(
    [*"[](){}<>017#:-–,.;'\"\\*`_|①½７［²⁄Ⅶ\u200b\n   ", *WORDED.split(" "), "is", "Why", "2nd"]
)


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=40) | st.lists(PIECES, max_size=14).map("".join))
@example("[" + "1" * 5000 + "]")
@example("\ud800[\udfff0]")
def test_any_text_is_read_once_and_for_all(text):
    read = normalized(text, OFFERED)
    again = normalized(read.text, OFFERED)
    assert (again.text, again.changed) == (read.text, 0)
    if read.unreadable is None:
        assert set(mentions(read.text)) == {n for n in read.regions if n >= 0}
        assert again.regions == read.regions and again.unreadable is None
    else:
        assert read.text == text and read.unreadable in text


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, "[1" * 50_000, "1]" * 50_000, "[ (" * 30_000, "(1 to " * 20_000,
        "[" * 40_000 + "0" + "]" * 40_000, "region 1" + " and 1" * 20_000, "region 1 and " * 8000,
        "[1" + " " * 90_000 + "x]", "the" + " " * 99_000 + "the", "region" + "#" * 100_000,
        "[0]" + " and 1" * 15_000 + ".", "<b" + " b" * 40_000, "&" * 100_000, "1" * 100_000,
    ],
    ids=lambda text: text[:9],
)  # fmt: skip
def test_hostile_texts_take_no_longer_than_their_length(text):
    started = time.process_time()
    normalized(text, OFFERED)
    assert time.process_time() - started < 2
