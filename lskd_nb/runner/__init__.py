"""The notebooks, run headless by papermill: strictly, and only as far as something has changed.

In: notebooks/ and a profile's parameters (params/<profile>/). Out: executed notebooks,
manifest.json, metrics.json in the run's folder. Read ``run`` first; ``parameters`` checks what is
given, ``execution`` runs one notebook, ``manifest`` says whether anything has changed,
``readiness`` what is missing before anything is spent, ``replication`` runs several seeds.
"""
