"""What leaves the house: reports, cards, exports, folders for the hub, the site of the series.

In: the folder of a finished run. Out: report.json and report.md, cards, COCO and FiftyOne files,
repositories staged for the hub. Read ``report`` first (what a corpus is made of), then ``hub``;
``contamination`` and ``toxicity`` are parts of the report, ``secrets_scan`` reads every file
before it goes.
"""
