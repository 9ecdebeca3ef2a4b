"""The notebooks, run headless by papermill: strictly, and only as far as something has changed.

In: notebooks/ and a profile's parameters (params/<profile>/). Out: executed notebooks,
manifest.json, metrics.json in the run's folder. Read ``run`` first; ``parameters`` checks what is
given (``plain_yaml`` reads it, ``ranges`` has the rules), ``execution`` runs one notebook,
``manifest`` says whether anything has changed of what it can ``reach``, ``stops`` what people must
bring. ``readiness`` says what is missing before anything is spent (``data_wanted``, ``disk``,
``findings``), ``replication`` runs several seeds, ``import_command`` makes a run of a published
corpus.
"""
