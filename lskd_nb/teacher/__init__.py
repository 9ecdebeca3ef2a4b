"""Stage 2: an LLM reads what is known of an image and writes triples about its regions.

In: regions.parquet and verbalizations.parquet. Out: triples.parquet (records.TRIPLES), and
records.REJECTS that say why a reply is none. Read ``generate`` first, then ``prompts`` (what is
sent, and ``pictures``), ``dialect`` (how a server wants it said), ``replies`` and ``spellings``
(what is read from an answer) and ``parsing`` (what is valid); ``requests``, ``job``, ``client``,
``connection``, ``batch_api``, ``rate_limit``, ``cache`` and ``budget`` carry it there and back,
``estimate`` says beforehand what it costs.
"""
