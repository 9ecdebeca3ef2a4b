"""Notebook 02 against servers as they are: with only ``base_url`` and ``model`` given, every valid
triple that a server offers is kept, and a set-up that is wrong ends at once with what to change.

``make figures`` shows what is measured here, after ``tests/teacher/measure_servers.py --write``.
"""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # conformance/ and measure_servers.py

import measure_servers  # noqa: E402
from conformance import notebook, server  # noqa: E402
from conformance.personalities import ENDING, GOOD  # noqa: E402
from conformance.shapes import valid  # noqa: E402

KEY = measure_servers.KEY
PARTS = (KEY, KEY[:8], KEY[-4:])  # what a server may echo of it
QUESTIONS = notebook.IMAGES * 2  # two families
MOST = 10  # requests that a wrong set-up may cost
HEALING = ("no-quota", "wrong-key", "login-page", "empty")


@pytest.fixture(scope="module")
def met(tmp_path_factory):
    """All servers after a first run of the notebook against each: ``servers``, ``shell``, and
    ``by`` name what was met.
    """
    folder = tmp_path_factory.mktemp("conformance")
    with measure_servers.environment(), server.serving() as servers, notebook.shell() as shell:
        by = measure_servers.meet_all(shell, servers, folder)
        firsts = {name: _state(m.ledger) for name, m in by.items()}
        yield SimpleNamespace(servers=servers, shell=shell, by=by, firsts=firsts)


def _state(ledger: server.Ledger) -> SimpleNamespace:
    """What a ledger says now, where later runs change it."""
    return SimpleNamespace(
        pending=ledger.pending(),
        posted=len(ledger.posted),
        refused=ledger.refused.total(),
        offered=ledger.offered(),
        written=[texts for held in ledger.written.values() for texts in held],
        asked={q for q in ledger.posted if q},
    )


def _plain(triples: list) -> Counter:
    """Triples, counted, whatever white space is in them."""
    return Counter(tuple(" ".join(text.split()) for text in texts) for texts in triples)


def again(met: SimpleNamespace, name: str) -> tuple[notebook.Ran, list[server.Question | None]]:
    """Another run in the same folder, and the requests that it sent."""
    before = len(met.by[name].ledger.posted)
    ran = measure_servers.ask(met.shell, met.servers, name, met.by[name].folder)
    return ran, met.by[name].ledger.posted[before:]


# ------------------------------------------------------------------------------ what can be read is


@pytest.mark.parametrize("name", GOOD)
def test_what_a_server_offers_is_kept_to_the_letter(met, name):
    one, first = met.by[name], met.firsts[name]
    assert one.ran.error is None, one.ran.message
    assert one.ledger.shapes == {s.__name__ for s in one.who.replies}
    assert len(first.asked) == QUESTIONS
    kept, offered = _plain(one.ran.kept), _plain(first.offered)
    assert sorted((offered - kept).elements()) == [], "lost"
    assert sorted((kept - offered).elements()) == [], "kept, and was never offered"
    assert one.who.loses or len(first.offered) == len(first.written)
    assert one.row["kept"] == one.row["offered"] > 0


@pytest.mark.parametrize("name", GOOD)
def test_what_a_server_takes_is_found_out_once(met, name):
    """A refused field costs a few requests and not one for each question."""
    one = met.by[name]
    assert met.firsts[name].refused <= 6
    assert one.ledger.gets <= 2 + one.who.loading


@pytest.mark.parametrize("name", GOOD)
def test_another_run_asks_for_what_is_missing_and_for_nothing_else(met, name):
    """Whole replies are not asked for again; empty, failed and cut ones are, and what the cut ones
    held is not lost.
    """
    first, ledger = met.firsts[name], met.by[name].ledger
    refused = ledger.refused.total()
    ran, posted = again(met, name)
    assert ran.error is None, ran.message
    assert set(posted) == first.pending
    assert ledger.refused.total() == refused, "it has forgotten what the server takes"
    assert _plain(ran.kept) == _plain(ledger.offered())


# ------------------------------------------------------------------------- what is wrong is told so


@pytest.mark.parametrize("name", ENDING)
def test_a_wrong_set_up_ends_soon_with_the_words_and_what_to_change(met, name):
    one = met.by[name]
    assert isinstance(one.ran.error, RuntimeError), one.ran.told
    assert met.firsts[name].posted <= MOST and not one.ran.kept
    missing = [words for words in (*one.who.why, "To do: ") if words not in one.ran.told]
    assert not missing, one.ran.told
    assert met.servers.base_url(name).partition("?")[0] in one.ran.told
    assert repr(one.who.model) in one.ran.told


def test_no_part_of_the_key_is_said_or_written_anywhere(met):
    for name, one in met.by.items():
        said = f"{one.ran.printed}{one.ran.told}"
        assert [part for part in PARTS if part in said] == [], name
        written = {p: p.read_bytes() for p in one.folder.iterdir() if p.is_file()}
        found = [p for p, text in written.items() for part in PARTS if part.encode() in text]
        assert found == [], name


@pytest.mark.parametrize("name", HEALING)
def test_what_a_wrong_set_up_answered_is_not_kept(met, name):
    """Once it is put right, every question is asked again."""
    one = met.by[name]
    one.ledger.healed = True
    ran, posted = again(met, name)
    assert ran.error is None, ran.message
    assert {q for q in posted if q} == {q for q in one.ledger.answers} and len(posted) >= QUESTIONS
    assert len(one.ledger.written) == QUESTIONS
    assert _plain(ran.kept) == _plain([t for held in one.ledger.written.values() for t in held])


# ------------------------------------------------------------------------------------ whom one asks


def test_another_server_is_asked_and_the_first_one_not_again(met, tmp_path):
    """Both have the same model: a reply is of the server that gave it."""
    folder = shutil.copytree(met.by["proxy-null"].folder, tmp_path / "run")
    first, other = (met.by[name].ledger for name in ("proxy-null", "proxy-404"))
    before = len(first.posted), len(other.posted)
    ran = measure_servers.ask(met.shell, met.servers, "proxy-404", folder)
    assert ran.error is None and len({*other.posted[before[1] :]} - {None}) == QUESTIONS
    asked = len(other.posted)
    for name in ("proxy-null", "proxy-404"):
        assert measure_servers.ask(met.shell, met.servers, name, folder).error is None
    assert (len(first.posted), len(other.posted)) == (before[0], asked)


def test_a_proxy_in_the_environment_is_not_for_this_machine(met, tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    folder = shutil.copytree(met.by["openai"].folder.parent / "world", tmp_path / "run")
    ran = measure_servers.ask(met.shell, met.servers, "lm-studio", folder)
    assert ran.error is None and len(ran.kept) == met.by["lm-studio"].row["offered"]


# -------------------------------------------------------------------------- the judge, and its word


def test_the_judge_counts_by_the_rule():
    good = dict(question="Who is [0]?", answer="A man.", rationale="[1] is near [0].")
    changes = ({}, {"question": "Who?"}, {"answer": " "}, {"rationale": "[7] runs."})
    assert len(valid([good | change for change in changes], frozenset({0, 1}))) == 1


def test_the_record_says_what_is_measured(met):
    recorded = json.loads(measure_servers.RECORD.read_text(encoding="utf-8"))
    names = measure_servers.COMPARED
    now = [{name: one.row[name] for name in names} for one in met.by.values()]
    assert [{name: row[name] for name in names} for row in recorded] == now
