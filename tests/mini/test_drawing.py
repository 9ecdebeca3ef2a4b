"""Pictures of sample scenes: the same bytes every time, everything where its box says, every
fact visible.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from lskd_nb.mini.drawing import teaser
from lskd_nb.mini.drawing.render import contact_sheet, render
from lskd_nb.mini.scenes.rules import situation_of
from lskd_nb.mini.scenes.world import (
    COLORS,
    FACES,
    HEIGHT,
    HELD,
    KINDS,
    OUTDOORS,
    PEOPLE,
    PLACES,
    POSES,
    TIMES,
    WEATHER,
    WIDTH,
    Entity,
    Scene,
    sample_scenes,
)

SCENES = sample_scenes(40, 11, "r")
SLACK = (
    2.5  # pixels outside a box: line ends, the shadow under the feet, and rounding to whole pixels
)
BOXES = {kind: (100.0, 60.0, 200.0, 140.0) for kind in KINDS}
BOXES.update(dict.fromkeys((*PEOPLE, "tree", "lamp"), (120.0, 90.0, 190.0, 220.0)))


def _alone(kind: str, color: str, pose: str = "", held: str = "", facing: int = 1) -> Scene:
    return Scene(
        "one",
        "park",
        "cloudy",
        "day",
        (Entity(kind, color, pose, held, box=BOXES[kind], facing=facing),),
        seed=4,
    )


def _pixels(scene: Scene) -> np.ndarray:
    return np.asarray(render(scene)).astype(int)


def _shown(scene: Scene) -> np.ndarray:
    """Where the entities changed the picture: bool, HEIGHT x WIDTH."""
    return np.abs(_pixels(scene) - _pixels(replace(scene, entities=()))).max(2) > 24


def _apart(one: Scene, other: Scene) -> int:
    """How many of 112 x 112 pixels a viewer sees changed."""
    small = [
        np.asarray(render(s).resize((112, 112), Image.Resampling.BICUBIC)).astype(int)
        for s in (one, other)
    ]
    return int((np.abs(small[0] - small[1]).max(2) > 24).sum())


@pytest.mark.parametrize("scene", SCENES[:12], ids=lambda s: s.scene_id)
def test_same_scene_same_bytes(scene):
    one, two = render(scene), render(replace(scene))
    assert one.mode == "RGB" and one.size == (WIDTH, HEIGHT)
    assert one.tobytes() == two.tobytes()


def test_decoration_comes_from_the_seed_alone():
    scene = SCENES[0]
    state = np.random.get_state()[1].tolist()
    first = render(scene).tobytes()
    render(SCENES[1])
    assert render(scene).tobytes() == first == render(replace(scene, scene_id="other")).tobytes()
    assert np.random.get_state()[1].tolist() == state
    assert render(replace(scene, seed=scene.seed + 1)).tobytes() != first


def test_entities_stay_in_their_boxes():
    for scene in SCENES:
        scene = replace(
            scene, weather=scene.weather and "cloudy", time=scene.time and "day"
        )  # plain light, no rain over them
        for entity in scene.entities:
            ys, xs = np.nonzero(_shown(replace(scene, entities=(entity,))))
            x0, y0, x1, y1 = entity.box
            outside = max(x0 - xs.min(), y0 - ys.min(), xs.max() + 1 - x1, ys.max() + 1 - y1)
            assert outside <= SLACK, (
                f"{scene.scene_id}: {entity} is drawn {outside:.1f} px outside its box"
            )
            assert (xs.max() - xs.min()) * (ys.max() - ys.min()) > 0.6 * (x1 - x0) * (y1 - y0), (
                f"{entity} does not fill its box"
            )


@pytest.mark.parametrize("kind", KINDS)
def test_poses_and_colors_are_told_apart(kind):
    poses = [_alone(kind, COLORS[kind][0], pose) for pose in POSES[kind]]
    colors = [_alone(kind, color, POSES[kind][0]) for color in COLORS[kind]]
    for several in (poses, colors):
        for i, one in enumerate(several):
            assert all(_apart(one, other) >= 25 for other in several[:i])


@pytest.mark.parametrize("kind", PEOPLE)
def test_held_things_are_told_apart(kind):
    several = [_alone(kind, "blue", "standing", held) for held in ("", *HELD)]
    for i, one in enumerate(several):
        assert all(_apart(one, other) >= 25 for other in several[:i])


@pytest.mark.parametrize("kind", ("man", "dog", "car"))
def test_facing_mirrors(kind):
    right, left = (_shown(_alone(kind, "white", POSES[kind][0], facing=f)) for f in (1, -1))
    x0, _, x1, _ = BOXES[kind]
    mirrored = np.zeros_like(right)
    mirrored[:, int(x0) - 4 : int(x1) + 4] = right[:, int(x0) - 4 : int(x1) + 4][:, ::-1]
    assert (mirrored & left).sum() > 0.85 * (mirrored | left).sum()


def test_every_place_weather_and_time_looks_different():
    scenes = [Scene("b", place, w, t, (), 1) for place in OUTDOORS for w in WEATHER for t in TIMES]
    scenes += [Scene("b", place, "", "", (), 1) for place in PLACES if place not in OUTDOORS]
    pictures = [_pixels(s) for s in scenes]
    for i, one in enumerate(pictures):
        assert all((np.abs(one - other).max(2) > 12).sum() > 300 for other in pictures[:i])


def test_contact_sheet_holds_every_picture():
    sheet = contact_sheet(SCENES[:5], columns=3)
    assert sheet.mode == "RGB" and sheet.width >= 3 * WIDTH and sheet.height >= 2 * HEIGHT
    assert np.array_equal(np.asarray(sheet)[:HEIGHT, :WIDTH], np.asarray(render(SCENES[0])))


def test_the_teaser_shows_three_scenes_with_what_is_asked_of_them(tmp_path):
    scenes = sample_scenes(900, teaser.SEED, "z")
    chosen = teaser.chosen_scenes(scenes)
    assert [situation_of(s, region)[0].name for s, region, _ in chosen] == [
        name for name, *_ in teaser.SHOWN
    ]
    teaser.draw_teaser(tmp_path / "t.png")
    with Image.open(tmp_path / "t.png") as image:
        assert image.width > 1000 and (tmp_path / "t.png").stat().st_size < 300_000


@pytest.mark.parametrize("kind", PEOPLE)
def test_faces_are_told_apart(kind):
    scenes = [
        replace(s, entities=(replace(s.entities[0], face=face),))
        for face in FACES
        for s in [_alone(kind, "blue", "standing")]
    ]
    for one, other in combinations(scenes, 2):
        assert _apart(one, other) >= 6
