"""Pointing at a region of any image and asking about it: the paper's interface."""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import anywidget
import ipywidgets as w
import traitlets
from PIL import Image

from lskd_nb.regions import LocatedImage, Region, highlight_colors, mentions
from lskd_nb.viewing.drawings_only import are_drawings, learned_from_drawings
from lskd_nb.viewing.markup import data_url, described, mention_html, picture_html, warnings_html
from lskd_nb.viewing.widgets.frame import STATIC, Frame, button, row

PHOTOGRAPH = Path(__file__).parents[2] / "sources" / "photograph"
QUESTION = "What is [0] about to do?"
MOST_REGIONS, MOST_SHOWN, SHOWN_WIDTH = 20, 5, 960
HINT = (
    "On the image: drag to draw a box, click a dashed one to take it, click a drawn one and drag to"
    " move it; keys B new box, arrows move it, shift and arrows resize it, Delete. Elsewhere: Enter"
    " ask · N P next and previous image · C clear."
)


class RegionCanvas(anywidget.AnyWidget):
    """An image to draw boxes on (xyxy pixels of the image).

    ``offered`` ones are dashed, to be clicked.
    """

    _esm = STATIC / "canvas.js"
    _css = STATIC / "frame.css"
    image = traitlets.Unicode().tag(sync=True)  # a data: URL
    alt = traitlets.Unicode().tag(sync=True)
    size = traitlets.List([1, 1]).tag(sync=True)
    boxes = traitlets.List().tag(sync=True)
    offered = traitlets.List().tag(sync=True)
    colors = traitlets.List().tag(sync=True)


class RegionPointer(Frame):
    """Draw or click boxes, ask a question that mentions them, see what each system answers.

    ``systems`` names students (folders or hub names), loaded when first asked; ``images`` (with
    ``image_root``) are offered with their regions, beside a photograph and your own upload;
    ``corpus`` (Parquet) has answers to try where you give none. An LLM is asked too where
    OPENAI_API_KEY is set and the box is ticked.
    """

    def __init__(
        self,
        systems: Mapping[str, str | Path],
        images: Sequence[LocatedImage] = (),
        image_root: str | Path = "",
        corpus: str | Path | None = None,
        llm: str = "gpt-4.1-mini",
    ):
        self.systems, self.corpus, self.llm = dict(systems), Path(corpus) if corpus else None, llm
        self.images, self.image_root, self._loaded, self.answers = list(images), image_root, {}, []
        self._title, self.picture = "", Image.new("RGB", (1, 1))
        self._drawing, self._drawings = False, are_drawings(image_root)
        self._know_drawings = [n for n, s in self.systems.items() if learned_from_drawings(s)]
        self.canvas = RegionCanvas(
            colors=[
                ["#" + bytes(c).hex() for c in highlight_colors(i)] for i in range(MOST_REGIONS)
            ]
        )
        self.canvas.observe(self._drawn, "boxes")
        self.upload = w.FileUpload(accept="image/*", multiple=False, description="own image")
        self.upload.observe(self._uploaded, "value")
        self.number = w.BoundedIntText(
            value=1,
            min=1,
            max=max(len(self.images), 1),
            description="image",
            layout=w.Layout(width="11em"),
        )
        self.number.observe(lambda _: self._open(self.number.value - 1), "value")
        self.question = w.Text(
            value=QUESTION,
            description="question",
            layout=w.Layout(width="30em"),
            continuous_update=False,
        )
        self.choices = w.Textarea(
            placeholder=(
                "answers to choose from, one a line; none:"
                " the student's own words, and the corpus's commonest answers"
            ),
            description="answers",
            layout=w.Layout(width="30em", height="84px"),
        )
        self.also_llm = w.Checkbox(
            value=False, description=f"ask {llm} too", indent=False, layout=w.Layout(width="auto")
        )
        self.status, self.result = w.HTML(), w.HTML()
        if self.images:
            of_run = [
                self.number,
                button("show", lambda: self._open(self.number.value - 1), "this image again"),
            ]
        else:
            of_run = []
        sources = row(*of_run, button("photograph", self.show_photograph), self.upload)
        asking = row(
            button("ask", self.ask, button_style="primary"),
            button("clear boxes", self.clear),
            self.also_llm,
        )
        right = w.VBox(
            [self.question, self.choices, asking, self.status, self.result],
            layout=w.Layout(flex="1 1 340px", min_width="0", margin="0 0 0 14px"),
        )
        keys = {
            "Enter": self.ask,
            "n": lambda: self._turn(1),
            "p": lambda: self._turn(-1),
            "c": self.clear,
        }
        super().__init__(
            [sources, row(w.VBox([self.canvas]), right, align="flex-start")],
            keys,
            HINT,
            "region pointer",
        )
        if self.images:
            self._open(0)
        else:
            self.show_photograph()

    @classmethod
    def of_run(
        cls,
        folder: str | Path,
        images: Sequence[LocatedImage] | None = None,
        image_root: str | Path = "",
        llm: str = "gpt-4.1-mini",
    ) -> "RegionPointer":
        """The pointer of a run: its base and its LSKD student.

        ``images`` are the run's first, unless others, such as unseen ones, are given.
        """
        from lskd_nb.run_folder import RunFolder

        run = RunFolder(folder)
        told = run.folder / "student" / "lskd.json"
        if not told.exists():
            raise FileNotFoundError(f"{told} is not there: run notebook 05 first")
        if images is None:
            images, image_root = [run.image(i) for i in run.image_ids()[:200]], run.image_root
        try:
            systems = {
                "base": json.loads(told.read_text(encoding="utf-8"))["student"],
                "LSKD": run.folder / "student" / "lskd",
            }
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{told} does not name the student that training began with: {error!r}"
            ) from error
        return cls(systems, images, image_root, run.folder / "corpus.parquet", llm)

    # ------------------------------------------------------------------------------------ the image

    def show(
        self, image: Image.Image, title: str, offered: Sequence[Region] = (), drawing: bool = False
    ) -> None:
        """Put an image on the canvas, without boxes; ``drawing``: it is of the mini world."""
        self.picture, self._title, self._drawing = image.convert("RGB"), title, drawing
        shown = self.picture.copy()
        shown.thumbnail((SHOWN_WIDTH, SHOWN_WIDTH))
        with self.canvas.hold_sync():
            self.canvas.boxes = []
            self.canvas.size = list(image.size)
            self.canvas.alt = f"{title}, to draw boxes on"
            self.canvas.offered = [
                dict(box=list(map(float, r.box)), label=r.label) for r in offered
            ]
            self.canvas.image = data_url(shown)
        self._drawn()

    def show_photograph(self) -> None:
        """NASA's portrait of an astronaut, with its regions."""
        from lskd_nb.sources import visual_genome

        (located,), _ = visual_genome.read_visual_genome(PHOTOGRAPH, PHOTOGRAPH.parent)
        self.show(
            Image.open(PHOTOGRAPH.parent / located.path),
            "a photograph of an astronaut",
            located.regions,
        )

    def _open(self, place: int) -> None:
        from lskd_nb.students.views import open_image

        located = self.images[place]
        try:
            self.show(
                open_image(self.image_root, located.path),
                f"image {located.image_id}",
                located.regions,
                self._drawings,
            )
        except (OSError, ValueError) as error:
            self.show(Image.new("RGB", (480, 360), "#888"), f"image {located.image_id}")
            self._fail(error)

    def _turn(self, by: int) -> None:
        if self.images:
            self.number.value = (self.number.value - 1 + by) % len(self.images) + 1

    def _uploaded(self, _change=None) -> None:
        from lskd_nb.viewing.pointing import read_upload

        for file in self.upload.value:
            try:
                self.show(read_upload(bytes(file["content"]), file["name"]), file["name"])
            except ValueError as error:
                self._fail(error)

    def clear(self) -> None:
        """Take all boxes away."""
        self.canvas.boxes = []

    @property
    def regions(self) -> tuple[Region, ...]:
        """What is drawn, numbered as drawn; an offered region keeps its label."""
        from lskd_nb.viewing.pointing import regions_of_boxes

        labels = {
            tuple(round(float(v), 1) for v in o["box"]): o["label"] for o in self.canvas.offered
        }
        return regions_of_boxes(
            self.canvas.boxes,
            self.picture.size,
            [labels.get(tuple(round(float(v), 1) for v in b), "") for b in self.canvas.boxes],
        )

    def _drawn(self, _change=None) -> None:
        if len(self.canvas.boxes) > MOST_REGIONS:
            self.canvas.boxes = self.canvas.boxes[:MOST_REGIONS]
        self.result.value = ""  # answers about other boxes
        told = ", ".join(f"[{i}]" for i in range(len(self.canvas.boxes)))
        if told:
            self.status.value = f'<span class="loc-quiet">drawn: {told}</span>'
        else:
            self.status.value = '<span class="loc-quiet">draw a box, or click a dashed one</span>'

    # --------------------------------------------------------------------------------------- asking

    def ask(self) -> None:
        """Put the question to every system, and show what they say."""
        from lskd_nb.viewing.pointing import check_question

        try:
            regions = self.regions
            question = check_question(self.question.value, regions)
            self.status.value = "asking …"
            self.answers = self._asked(question, regions)
        except (ValueError, RuntimeError, OSError) as error:
            self._fail(error)
            return
        if mentions(question):
            pointed = ""
        else:
            pointed = " The question points at nothing: write [0] for the first box."
        self.status.value = f'<span class="loc-quiet">{html.escape(self._title)}.{pointed}</span>'
        self.result.value = (
            self._out_of_place()
            + f'<div style="font-size:15px;margin:4px 0"><b>{mention_html(question)}</b></div>'
            + "".join(map(self._answer_html, self.answers))
        )

    def _out_of_place(self) -> str:
        """That students of drawings are asked about something else; empty where they are not."""
        if self._drawing or not self._know_drawings:
            return ""
        who = " and ".join(self._know_drawings)
        told = (
            "knows the mini world's drawings only"
            if len(self._know_drawings) == 1
            else ("know the mini world's drawings only")
        )
        return warnings_html([f"{who} {told}, and this is none: what is said here is nonsense."])

    def _asked(self, question: str, regions: Sequence[Region]) -> list[tuple[str, str, list]]:
        """Blocks of answers: system, what was asked of it, and what it said."""
        from lskd_nb.viewing import pointing

        given = [c for line in self.choices.value.splitlines() if (c := line.strip())]
        tried = given or (pointing.common_answers(self.corpus, question) if self.corpus else [])
        blocks, put = [], pointing.prefix_of(self.systems.values()) + question
        for name in self.systems:
            student = self._student(name)
            seen = pointing.look(student, self.picture, regions)
            if not given:
                blocks.append(
                    (name, "in its own words", [pointing.generate_answer(student, seen, put, name)])
                )
            if tried:
                if given:
                    what = f"of your {len(given)} answers"
                else:
                    what = f"best of the corpus's {len(tried)} commonest answers"
                blocks.append(
                    (name, what, pointing.rank_candidates(student, seen, put, tried, name))
                )
        if self.also_llm.value:
            blocks.append(self._asked_llm(question, regions, given))
        return blocks

    def _asked_llm(
        self, question: str, regions: Sequence[Region], given: Sequence[str]
    ) -> tuple[str, str, list]:
        from lskd_nb.viewing import pointing

        if not pointing.key_is_set():
            return self.llm, "could not be asked: OPENAI_API_KEY is not set in the environment", []
        try:
            return (
                self.llm,
                "looking at the same boxes",
                [pointing.ask_llm(self.picture, regions, question, given, self.llm)],
            )
        except RuntimeError as error:
            return self.llm, str(error), []

    def _student(self, name: str):
        if name not in self._loaded:
            import torch

            from lskd_nb.students.loading import load_student

            self.status.value = f"loading {html.escape(name)} …"
            self._loaded[name] = (
                load_student(str(self.systems[name]))
                .eval()
                .to("cuda" if torch.cuda.is_available() else "cpu")
            )
        return self._loaded[name]

    def _answer_html(self, block: tuple[str, str, list]) -> str:
        system, what, said = block
        lines = "".join(_said_html(one) for one in said[:MOST_SHOWN])
        return (
            f'<div style="margin:6px 0"><b>{html.escape(system)}</b> <span'
            f' class="loc-quiet">{html.escape(what)}</span>{lines}</div>'
        )

    def _fail(self, error: Exception) -> None:
        self.status.value = (
            f'<span class="loc-error" style="color:#b3261e">{html.escape(str(error))}</span>'
        )
        self.result.value = ""

    def static_html(self) -> str:
        """The image with what is drawn on it, or offered, and the answers."""
        offered = [
            Region(i, tuple(o["box"]), o["label"]) for i, o in enumerate(self.canvas.offered)
        ]
        try:
            regions = list(self.regions) or offered
        except ValueError:  # of a box that a browser would not make
            regions = offered
        shown = picture_html(self.picture, regions, described(regions, self._title), width=360)
        return (
            '<div style="display:flex;flex-wrap:wrap;gap:16px;font-family:system-ui,sans-serif">'
            f"{shown}<div>{self.status.value}{self.result.value}</div></div>"
        )


def _said_html(said) -> str:
    bar = ""
    if said.share is not None:
        bar = (
            '<span class="loc-bar"'
            ' style="flex:none;width:90px;height:10px;background:#8884;border-radius:5px">'
            f'<i style="display:block;height:100%;width:{100 * said.share:.0f}%;'
            'background:#0072b2;border-radius:5px"></i></span>'
        )
    parts = ((said.share, "{:.0%} of the choice"), (said.match, "fits with {:.2f}"))
    told = " · ".join(words.format(value) for value, words in parts if value is not None)
    words = mention_html(said.answer) if said.answer else "<i>nothing</i>"
    return (
        '<div class="loc-answer" style="display:flex;align-items:center;gap:8px;margin:2px 0">'
        f"{bar}<span>{words} "
        f'<span class="loc-quiet" style="opacity:.72;font-size:12px">{told}</span></span></div>'
    )
