"""What all widgets share: a frame that takes keys, the same look everywhere, and a static twin.

Widgets are boxes of ordinary ipywidgets controls with ``observe``, safe to run headless;
``interact`` and ``Output`` are avoided, since they swallow exceptions and can hang a headless run.
Keys come from one small anywidget without a picture of its own, which listens on the frame around
it.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anywidget
import duckdb
import ipywidgets as w
import traitlets
from IPython.display import HTML

from lskd_nb.regions import Region
from lskd_nb.viewing.markup import described, picture_html

STATIC = Path(__file__).parent / "static"


class Keys(anywidget.AnyWidget):
    """Listens to keys on the frame it is in, while nothing is typed into a field.

    Each calls its action in Python.
    """

    _esm = STATIC / "keys.js"
    _css = STATIC / "frame.css"
    heard = traitlets.List(traitlets.Unicode()).tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)  # of the frame, for screen readers

    def __init__(self, actions: Mapping[str, Callable[[], None]], hint: str = "", label: str = ""):
        super().__init__(heard=list(actions), hint=hint, label=label)
        self.actions = dict(actions)
        self.on_msg(self._pressed)

    def _pressed(self, _widget, content: Mapping, _buffers) -> None:
        if (action := self.actions.get(content.get("key"))) is not None:
            action()


class Frame(w.VBox):
    """A widget of this project: ``children`` under one another, ``keys`` by their JavaScript
    names ("ArrowRight", "a"), and ``hint`` naming them.
    """

    def __init__(
        self,
        children: Sequence[w.Widget],
        keys: Mapping[str, Callable[[], None]],
        hint: str,
        label: str,
    ):
        self.keyboard = Keys(keys, hint, label)
        super().__init__([*children, self.keyboard])
        self.add_class("loc-frame")

    def press(self, key: str) -> None:
        """Do what a key does."""
        self.keyboard.actions[key]()

    def static_html(self) -> str:
        """What is shown now, as HTML that needs no kernel."""
        raise NotImplementedError

    def static(self) -> HTML:
        """What is shown now, for readers of a saved file."""
        return HTML(self.static_html())


def attempt(action: Callable[[], object], show: Callable[[], object], trouble: w.HTML) -> None:
    """Do what was clicked and show what comes next; say in ``trouble`` what failed, since nobody
    sees an exception of a click.
    """
    trouble.value = ""
    for step in (action, show):
        try:
            step()
        except (OSError, ValueError, duckdb.Error) as error:
            trouble.value += f'<b role="alert" class="loc-error">{html.escape(str(error))}</b>'


def picture(
    image_root: str | Path,
    path: str,
    regions: Sequence[Region],
    texts: Sequence[str] = (),
    width: int = 420,
) -> tuple[str, bool]:
    """An image of a run with its regions, as ``picture_html``, and whether it could be read;
    else the reason, in its place.
    """
    from lskd_nb.students.views import open_image

    try:
        return (
            picture_html(open_image(image_root, path), regions, described(regions), texts, width),
            True,
        )
    except (OSError, ValueError) as error:
        return (
            (
                f'<div role="alert" class="loc-error" style="width:{width}px">no picture:'
                f" {html.escape(str(error))}</div>"
            ),
            False,
        )


def row(*children: w.Widget, align: str = "center") -> w.HBox:
    """Controls beside one another, wrapped where there is no room."""
    return w.HBox(children, layout=w.Layout(flex_flow="row wrap", align_items=align))


def button(text: str, action: Callable[[], None], tooltip: str = "", **more) -> w.Button:
    """A button as wide as its text."""
    made = w.Button(description=text, tooltip=tooltip, layout=w.Layout(width="auto"), **more)
    made.on_click(lambda _: action())
    return made
