"""The method: Localized Symbolic Knowledge Distillation (LSKD; Park et al., NeurIPS 2023).

What flows between the stages are files of a run's folder; ``records`` has their columns.

    sources/             images and boxes of real data sets, or mini/'s drawn ones
       |                 regions.parquet         image: size, regions [id, box xyxy (4,), label]
       v
    1  verbalization/    images -> words: the whole image, each region, questions and answers
       |                 verbalizations.parquet  line: image, kind, region, text, score, model
       v
    2  teacher/          words -> an LLM -> triples that point at regions by "[0]", "[1]"
       |                 triples.parquet         question, answer, rationale, regions [id]
       |
       |  3  critic/     people's labels -> a model that scores triples
       |     |           labels.parquet          triple: accept, qa_score, rationale_score
       |     v           critic/                 image (3, S, S) and triple -> accept (2,), scores
       v     v
    4  critic/filtering, corpus/       keep what scores best, about a fifth
       |                 scores.parquet          triple: score, qa_score, rationale_score
       |                 corpus.parquet          a triple, its score, its image and boxes
       v
    5  students/, training/            a network learns the corpus from images with boxes drawn
       |                 student/                image (3, S, S) and text (L,) -> match (2,)
       v
    6  evaluation/       what it has learnt: choices, official metrics, intervals
       |                 predictions/*.parquet   item: scores (choices,), label, correct
       v
    7  viewing/, publishing/           looked at by people; reports, cards, exports, the hub

``runner`` runs the numbered notebooks that do this, ``cli`` is the command ``lskd``. Imports go one
way, from the ground up: ``records``, ``regions``, ``shards``; ``sources``, ``students``,
``teacher``; ``run_folder``, ``training``; ``verbalization``, ``critic``; ``corpus``;
``evaluation``; ``viewing``; ``runner``; ``publishing``; ``cli``. ``mini`` stands beside.
"""

__version__ = "0.1.0"
