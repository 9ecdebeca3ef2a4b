"""Where an image's file is: below its root, through links, in the other folder of Visual Genome."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lskd_nb.regions import image_file
from lskd_nb.students.views import View, draw, open_image


@pytest.fixture
def root(tmp_path) -> Path:
    """An image root with a link to a folder and one to a file, both outside."""
    away = tmp_path / "visual_genome" / "VG_100K"
    away.mkdir(parents=True)
    Image.new("RGB", (40, 30), (200, 10, 10)).save(away / "1.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "VG_100K").symlink_to("../visual_genome/VG_100K")
    (tmp_path / "images" / "one.png").symlink_to(away / "1.png")
    return tmp_path / "images"


@pytest.mark.parametrize("path", ["VG_100K/1.png", "one.png"])
def test_links_of_the_roots_owner_are_followed(root, path):
    assert open_image(root, path).size == (40, 30)
    assert np.asarray(draw(View(path), root, 8))[4, 4].tolist() == [200, 10, 10]


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "VG_100K/../secret.png",
        "VG_100K/../../secret.png",
        "a/..",
        "..\\secret.png",
    ],
)
def test_a_path_of_the_data_may_not_leave_the_root(root, path):
    with pytest.raises(ValueError, match="leaves the image root"):
        open_image(root, path)
    with pytest.raises(ValueError, match="leaves the image root"):
        open_image(root, str(root / "one.png"))


def test_a_link_to_itself_is_no_image(root):
    (root / "loop.png").symlink_to("loop.png")
    with pytest.raises(ValueError, match="loop.png is not a readable image"):
        open_image(root, "loop.png")
    (root / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(FileNotFoundError, match="no image 'gone.png'"):
        open_image(root, "gone.png")


def test_a_picture_in_the_other_folder_of_visual_genome_is_found(root):
    assert open_image(root, "VG_100K_2/1.png").size == (40, 30)
    assert image_file(root, "VG_100K_2/1.png") == root / "VG_100K/1.png"
    assert image_file(root, "VG_100K_2/2.png") == root / "VG_100K_2/2.png"
    (root / "VG_100K_2").mkdir()
    Image.new("RGB", (9, 9)).save(root / "VG_100K_2" / "1.png")
    assert open_image(root, "VG_100K_2/1.png").size == (9, 9)


def test_looking_at_images_needs_no_library_of_networks():
    """Notebooks that show pictures and read corpora would wait seconds for transformers."""
    told = "import sys, lskd_nb.students.views, lskd_nb.training.batches; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "torch" in loaded and "transformers" not in loaded
