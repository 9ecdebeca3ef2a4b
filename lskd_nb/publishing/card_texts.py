"""What cards say whatever the run: how things are made, what they are for, where they fail."""

from lskd_nb.critic import UNFILTERED

FIELDS = {
    "triple_id": "unique",
    "image_id": "unique for each image",
    "family": (
        "prompt family: `id` (texts point with `[2]` alone), `description` (they say what `[2]` is)"
        " or `words` (they say what it is, and point at nothing)"
    ),
    "question": "mentions at least one region, unless the family is `words`",
    "answer": "what the teacher answers itself",
    "rationale": "what in the image supports the answer",
    "regions": "ids that the texts mention",
    "regions_offered": "ids that the teacher was told about",
    "model": "who wrote the triple",
    "prompt": "name and hash of the prompt",
    "request": "hash of the request",
    "score": "the critic's probability that the triple is acceptable",
    "image": "path of the image below its data set's folder",
    "width": "pixels",
    "height": "pixels",
    "source": "data set of the image",
    "split": "of that data set",
    "references": "the regions offered: id, box (xyxy in pixels), label, score of the detector",
}
NO_REPORT = "Not measured: the run has no report."
NO_RECIPE = (
    "No record of the training lies beside the weights: what differs from the paper is not known."
)
IMAGES_MINI = (
    "images are drawings of an embedded synthetic world, which `lskd run mini` draws anew. **No"
    " language model wrote these texts and no photograph is behind them:** a rule-based writer did,"
    " so that the method can be run in minutes. Nothing here is knowledge about the real world."
)
HOW_CORPUS = (
    "Images were put into words by verbalizers (places, objects and concepts, captions,"
    " descriptions of regions, answers to questions). A teacher that sees only these words"
    " ({teacher}) wrote questions, answers and rationales about numbered regions; what mentions a"
    " region that is not there was rejected. {filtered}. The method is"
    " *Localized Symbolic Knowledge Distillation*."
)
SCORED = "A critic trained on labelled triples scored each; {kept}"
SCORED_BY = "A critic that was not trained here, {critic}, scored each; {kept}"
NOT_SCORED = f"Nobody scored them and all were kept (**{UNFILTERED}**)"
HOW_STUDENT = (
    "Distilled from {triples} triples{filtered}, on images with the offered regions drawn"
    " in the colours of their ids, which are shuffled. The vision encoder is frozen; the Q-Former"
    " learns by contrast (ITC), matching (ITM) and writing (LM)."
)
HOW_CRITIC = (
    "Trained on {labels} labelled triples to tell acceptable ones from others, with two more heads"
    " for scores of the answer and of the rationale; the vision encoder is frozen."
)
LOADING = """```python
from huggingface_hub import snapshot_download
from lskd_nb.students.loading import load_student
student = load_student(snapshot_download("{name}"))
```

`Blip2ForImageTextRetrieval` of transformers reads it by name, without temperature \
and LM head, which are in `stage1.safetensors`. Regions have to be
drawn as in training: `lskd_nb.regions.highlight`."""
USE = (
    "Research on commonsense about pointed regions, and on how such knowledge is distilled. Not for"
    " decisions about people, nor for who needs facts."
)
USE_MINI = (
    "Trying out and teaching the method, and testing code. **Not for any use on photographs**: it"
    " knows drawings of some thirty kinds of things and some hundred rules."
)
LIMITS = (
    (
        "Texts are written by a model from descriptions of the images"
        " and filtered by a critic; some are wrong."
    ),
    (
        "The teacher has not seen the images: what the verbalizers got wrong, it may repeat, and a"
        " critic finds only part of that."
    ),
    (
        "Answers about intents, feelings, and what happens before or after are guesses, also where"
        " they sound certain. Guesses about people may rest on stereotypes."
    ),
    "English only. Texts carry the tastes of the critic as well: what it likes is kept more often.",
)
# in place of what a critic is in LIMITS, where there was none
NO_CRITIC = (
    (
        "Texts are written by a model from descriptions of the images, and nothing was filtered"
        " (no critic): expect that many are wrong."
    ),
    (
        "The teacher has not seen the images: what the verbalizers got wrong, it may repeat, and"
        " nothing was there to find it."
    ),
    LIMITS[2],
    "English only.",
)
LIMITS_MINI = (
    (
        "A toy: pictures are drawn, texts are made by rules from a few templates, and the"
        " benchmarks are of the same world, written in the real sets' formats. Figures say nothing"
        " about photographs and can't be compared with the paper's."
    ),
)
CITATION = """```bibtex
@inproceedings{park2023localized,
  title     = {Localized Symbolic Knowledge Distillation for Visual Commonsense Models},
  author    = {Park, Jae Sung and Hessel, Jack and Chandu, Khyathi Raghavi and Liang, Paul Pu and \
Lu, Ximing and West, Peter and
               Yu, Youngjae and Huang, Qiuyuan and Gao, Jianfeng and Farhadi, Ali and Choi, Yejin},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2023},
  note      = {arXiv:2312.04837}
}
```"""
