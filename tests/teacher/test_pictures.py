"""A teacher that sees: the picture that goes along, what it counts as, and whom it reaches."""

import base64
import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lskd_nb.mini.drawing.render import render
from lskd_nb.mini.scenes.world import sample_scenes
from lskd_nb.mini.teacher.eyes import read_messages, rubbed_out
from lskd_nb.mini.teacher.server import serving
from lskd_nb.mini.teacher.writer import NAME
from lskd_nb.regions import Region, highlight, highlight_colors, pixel_box, resize_regions
from lskd_nb.run_folder import find_root
from lskd_nb.sources import visual_genome as vg
from lskd_nb.teacher import generate, prompts
from lskd_nb.teacher.cache import ResponseCache
from lskd_nb.teacher.dialect import Dialect
from lskd_nb.teacher.estimate import estimate
from lskd_nb.teacher.pictures import Picture, numbered, tags
from lskd_nb.teacher.requests import TeacherSettings, most_tokens, request_body, request_key

HOME = Path(vg.__file__).parent / "photograph"
SETTINGS = TeacherSettings("http://127.0.0.1:9/v1", NAME, 0.0, 0, takes=asdict(Dialect()))


@pytest.fixture(scope="module")
def photo():
    (photo,), _ = vg.read_visual_genome(HOME, HOME.parent)
    return photo


def of(photo, *sees: str, **changes) -> prompts.Prompts:
    return prompts.build_prompts([photo], [], sees=sees, image_root=HOME.parent, **changes)


def decoded(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture.data_url().partition(",")[2])))


def test_the_picture_is_what_the_student_sees_with_a_number_at_each_box(photo):
    picture = Picture(HOME / "astronaut.jpg", photo.regions, 256)
    assert picture.data_url().startswith("data:image/jpeg;base64,")
    sent = decoded(picture)
    assert max(sent.size) == 256 and sent.format == "JPEG"
    with Image.open(picture.file) as whole:
        small = whole.convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)
    regions = resize_regions(photo.regions, (photo.width, photo.height), (256, 256))
    seen, drawn = (np.asarray(image, int) for image in (highlight(small, regions), picture.drawn()))
    differs = (abs(seen - drawn) > 40).any(-1)
    assert 0.005 < differs.mean() < 0.1, "tags, and nothing else"
    for region in photo.regions:
        outline = highlight_colors(region.id)[1][:3]
        assert (abs(drawn - outline).sum(-1) < 12).sum() > 60, f"the colour of {region.id}"


def test_tags_stay_in_the_image_and_off_each_other():
    image = Image.new("RGB", (64, 64), "gray")
    regions = tuple(Region(n, (0.0, 0.0, 64.0, 64.0)) for n in range(5))
    drawn = np.asarray(numbered(image, regions))
    for region in regions:
        outline = highlight_colors(region.id)[1][:3]
        found = (drawn == outline).all(-1)
        assert found.sum() > 80, f"tag {region.id} is there, and not under another"


def test_tags_hide_no_small_region(photo):
    """A crowd on a face: boxes of a few pixels, in one another and side by side."""
    boxes = ((200, 100, 330, 260), (230, 130, 250, 150), (255, 140, 275, 150), (240, 180, 280, 195))
    boxes += ((300, 400, 512, 512), (228, 128, 252, 152), (0, 0, 512, 512), (40, 300, 52, 312))
    boxes = (*(r.box for r in photo.regions), *boxes, (60, 300, 70, 309))
    regions = tuple(Region(n, tuple(map(float, box))) for n, box in enumerate(boxes))
    small = [n for n, (x0, y0, x1, y1) in enumerate(boxes) if (x1 - x0) * (y1 - y0) < 1000]
    for bound in (512, 320):
        shown = resize_regions(regions, (512, 512), (bound, bound))
        placed = tags(shown, (bound, bound))
        for n, one in enumerate(placed):
            assert 0 <= one[0] < one[2] < bound and 0 <= one[1] < one[3] < bound
            assert not any(common(one, other) for other in placed[n + 1 :])
            for x0, y0, x1, y1 in (shown[k].box for k in small):
                assert common(one, (x0, y0, x1, y1)) < 0.2 * (x1 - x0) * (y1 - y0), (
                    f"{n} at {bound}"
                )


def common(one, other) -> float:
    sides = (min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1))
    return float(np.prod([max(side, 0) for side in sides]))


def test_a_thin_outline_keeps_its_colour_in_the_jpeg(photo):
    sent = decoded(Picture(HOME / "astronaut.jpg", photo.regions, 320))
    for region in resize_regions(photo.regions, (photo.width, photo.height), sent.size):
        _, y0, x1, y1 = pixel_box(region.box, *sent.size)
        edge = np.asarray(sent, float)[(y0 + y1) // 2 - 5 : (y0 + y1) // 2 + 5, x1 - 2 : x1]
        outline = np.array(highlight_colors(region.id)[1][:3])
        assert abs(edge - outline).mean() < 30, region.id


def test_the_mini_teacher_s_eyes_rub_out_all_marks_and_find_each_box_to_the_pixel():
    scene = max(sample_scenes(60, 3, "r"), key=lambda s: len(s.entities))
    clean, regions = render(scene), [Region(i, e.box) for i, e in enumerate(scene.entities)]
    regions += [Region(len(regions), (20.0, 20.0, 310.0, 238.0))]  # about all the others
    buffer = io.BytesIO()
    numbered(highlight(clean, regions), regions).save(buffer, "JPEG", quality=90, subsampling=0)
    marked = Image.open(buffer).convert("RGB")
    listed = [replace(r, box=tuple(_nearest_per_cent(r.box))) for r in regions]
    rubbed, found = rubbed_out(marked, listed)
    assert [r.box for r in found] == [pixel_box(r.box, *clean.size) for r in regions]
    before, after, best = (np.asarray(i, float) for i in (marked, rubbed, clean))
    wrong = [(abs(seen - best).max(-1) > 40).mean() for seen in (before, after)]
    assert wrong[0] > 0.06 and wrong[1] < 0.025, wrong
    same, _ = rubbed_out(marked, [])
    assert (np.asarray(same) == before).all(), "where nothing is listed, nothing is rubbed out"


def test_the_mini_teacher_refuses_what_is_no_picture():
    told = (
        ("https://example.org/7.jpg", "is not a data URL"),
        ("data:image/png;base64,AAAA", "holds no image"),
        ("data:image/png;base64,?", "base64"),
    )
    for url, why in told:
        parts = [{"type": "image_url", "image_url": {"url": url}}]
        with pytest.raises(ValueError, match=why):
            read_messages([{"role": "user", "content": parts}])


def _nearest_per_cent(box) -> list[float]:
    return [round(100 * v / side) * side / 100 for v, side in zip(box, (320, 240) * 2, strict=True)]


def test_a_picture_is_known_by_what_it_shows(photo, tmp_path):
    picture = Picture(HOME / "astronaut.jpg", photo.regions, 512)
    other = tmp_path / "other.jpg"
    other.write_bytes(picture.file.read_bytes() + b" ")
    changed = [
        replace(picture, bound=511),
        replace(picture, regions=photo.regions[1:]),
        replace(picture, file=other),
    ]
    assert len({p.identity() for p in (picture, *changed)}) == 4
    other.write_bytes(picture.file.read_bytes())
    assert replace(picture, file=other).identity() == picture.identity(), "wherever it lies"
    for gone in (tmp_path / "none.jpg", HOME / "objects.json"):
        with pytest.raises(ValueError, match=f"{gone.name}: no picture for the teacher"):
            replace(picture, file=gone).drawn()


def test_each_way_to_see_is_a_prompt_of_its_own(photo):
    asked = list(of(photo, "words", "image", "both"))
    assert [p.source for p in asked] == [
        *("id", "description", "id_image", "description_image", "id_both", "description_both")
    ]
    assert [prompts.seen_by(p.name) for p in asked[::2]] == ["words", "image", "both"]
    assert len({request_key(p, SETTINGS) for p in asked}) == len({p.name for p in asked}) == 6
    assert asked[:2] == list(prompts.build_prompts([photo], [])), "words are as they were"
    words, image, both = (p.messages[-1]["content"] for p in asked[::2])
    assert "Regions:" not in image and "astronaut" not in image and "[0] 5, 2, 70, 100" in image
    assert both == f"{words}\n{image}" and "You see" not in asked[0].messages[0]["content"]
    for prompt in asked[2:]:
        assert "You see an image" in prompt.messages[0]["content"]
        assert "cannot see" not in prompt.messages[0]["content"]
    with pytest.raises(ValueError, match="sees is .*smell.*expected some of"):
        of(photo, "smell")
    assert prompts.sees_of("words, both") == ("words", "both")
    with pytest.raises(ValueError, match="teacher_sees is 'eyes'; expected some of words, image"):
        prompts.sees_of("eyes")


def test_nothing_is_read_before_it_is_needed(photo, tmp_path):
    gone = replace(photo, path="nowhere.jpg")
    (prompt, _) = prompts.build_prompts([gone], [], sees=("image",), image_root=tmp_path)
    assert most_tokens(prompt, SETTINGS)[1] > 0
    with pytest.raises(ValueError, match="nowhere.jpg: no picture for the teacher"):
        request_body(prompt, SETTINGS)


def test_a_picture_counts_as_its_tokens_and_not_as_its_bytes(photo, tmp_path):
    (words, *_), (image, *_) = of(photo, "words"), of(photo, "image", bound=512)
    body = request_body(image, SETTINGS)
    text, shown = body["messages"][-1]["content"]
    assert text["type"] == "text" and shown["image_url"]["url"].startswith("data:image/jpeg")
    size, tokens = most_tokens(image, SETTINGS)
    assert tokens == 1056 and size < len(json.dumps(body)) - 20_000
    prices = tmp_path / "p.yaml"
    prices.write_text(
        "date: x\nbatch_discount: 0\nmodels: {m: {input: 1, output: 1, max_output: 1}}"
    )
    paid = replace(SETTINGS, base_url="https://llm.example/v1", model="m", prices=prices)
    cache = ResponseCache(tmp_path / "c.sqlite")
    one, other = (estimate([p], paid, cache) for p in (words, image))
    cache.close()
    assert f"{tokens:,} tokens of pictures" in str(other) and "pictures" not in str(one)
    assert other.tokens[0] - tokens < one.tokens[0] * 1.2 and other.worst < 0.02
    counted = Picture(HOME / "astronaut.jpg", (), 512).tokens
    assert counted("gpt-4.1-mini") == counted("openai/gpt-4.1-mini") == counted() == 630
    assert counted("gpt-4o-mini") == 8500 and counted("pixtral-12b") == 1056


def test_a_picture_that_cannot_be_read_is_a_reject_and_the_others_go_on(photo, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    gone, text = (replace(photo, image_id=n, path=f"{n}.jpg") for n in ("gone", "text"))
    asked = prompts.build_prompts([gone, text], [], ("id",), sees=("image",), image_root=tmp_path)
    with serving() as url:
        settings = replace(SETTINGS, base_url=url)
        both = [*asked, *of(photo, "words")]
        rows, rejects, report = generate.generate_triples(both, settings, tmp_path / "c.sqlite")
    assert rows and {r["image_id"] for r in rows} == {photo.image_id} and report.not_sent == 2
    assert {r["reason"] for r in rejects} == {"not sent: no picture"}
    assert all("no picture for the teacher" in r["detail"] for r in rejects)


def test_notebook_2_tells_what_was_measured():
    told = json.loads((find_root() / "outputs" / "teacher_sees.json").read_text())
    notebook = (find_root() / "notebooks" / "02_prompting.ipynb").read_text()
    shares = {
        sees: "{mean:.0f}% [{low:.0f}, {high:.0f}]".format(
            **{name: 100 * of["acceptable"][name] for name in ("mean", "low", "high")}
        )
        for sees, of in told["seen"].items()
    }
    assert f"over {told['images']} images {shares['words']} of the triples from words" in notebook
    assert f"{shares['image']} of those from the picture, and {shares['both']} where" in notebook


def test_notebook_2_tells_what_a_small_model_is_worth():
    told = json.loads((find_root() / "outputs" / "local_teacher.json").read_text())
    notebook = (find_root() / "notebooks" / "02_prompting.ipynb").read_text()
    small, rules = (told["teachers"][name] for name in ("smollm2", NAME))
    shown = "{mean:.0f}% [{low:.0f}, {high:.0f}]"

    def share(of: dict) -> str:
        return shown.format(**{name: 100 * of[name] for name in ("mean", "low", "high")})

    assert f"about {told['images']} images, it wrote valid triples in {share(small['valid'])}" in (
        notebook
    )
    assert f"accepted {share(small['accepted'])} of them" in notebook
    assert f"had {share(rules['valid'])} and {share(rules['accepted'])}" in notebook


def test_the_mini_teacher_looks_at_the_picture_itself(tmp_path):
    """Real weights, real pictures; the same triples from the cache afterwards."""
    from lskd_nb.mini.files.world_files import write_world
    from lskd_nb.verbalization.images import read_images, sources_of

    write_world(tmp_path / "world", 2, 1, 5)
    at = tmp_path / "world" / "visual_genome"
    images = read_images(sources_of({"visual_genome": str(at)}, "."), tmp_path).images[:2]
    asked = prompts.build_prompts(images, [], ("id",), 4, sees=("image", "both"), image_root=at)
    with serving(imagination=0.0) as url:
        settings = replace(SETTINGS, base_url=url)
        rows, rejects, _ = generate.generate_triples(asked, settings, tmp_path / "c.sqlite")
        again = generate.generate_triples(asked, settings, tmp_path / "c.sqlite")
    assert not rejects and again[0] == rows and again[2].cached == len(asked) == 4
    said = " ".join(row["rationale"] for row in rows if prompts.seen_by(row["prompt"]) == "image")
    assert len(said) > 60 and {prompts.seen_by(r["prompt"]) for r in rows} == {"image", "both"}


@pytest.mark.parametrize("shown", [0, 340, 1500])
def test_what_a_picture_counts_as_is_measured_apart_from_the_text(photo, tmp_path, shown):
    """Replies to pictures do not change what words are expected to cost."""
    asked, said = of(photo, "words", "image"), {"triples": []}
    words, image = [asked[0], asked[1]], [asked[2], asked[3]]
    settings = replace(SETTINGS, model="gpt-4o-mini")  # counts a picture as up to 8,500 tokens
    cache = ResponseCache(tmp_path / "c.sqlite")

    def answer(prompt: prompts.Prompt, tokens: int) -> None:
        size, _ = most_tokens(prompt, settings)
        reply = {"content": json.dumps(said), "usage": [round(size / 4) + tokens, 90]}
        cache.put(request_key(prompt, settings), reply)

    def expected(left: list) -> int:
        return sum(round(most_tokens(p, settings)[0] / 4) for p in left)

    answer(image[0], shown)
    told = estimate(asked, settings, cache).tokens[0]
    assert told == pytest.approx(expected([*words, image[1]]) + shown, abs=5)
    assert estimate([image[0], *words], settings, cache).tokens[0] == pytest.approx(
        expected(words), abs=5
    )
    answer(words[0], 0)
    told = estimate(asked, settings, cache).tokens[0]
    cache.close()
    assert told == pytest.approx(expected([words[1], image[1]]) + shown, abs=5)


def test_greys_of_16_bits_are_seen_as_the_student_sees_them(tmp_path):
    grey = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    seen = np.asarray(Picture(tmp_path / "grey.png", (), 64).drawn(), int)
    assert abs(seen - (grey >> 8)[..., None]).max() <= 1
