"""A dress rehearsal: a profile's whole run, walked before anybody has its data, models or key.

In: a profile of params/. Out: a stage, a project of its own whose data sets, models and server are
as one would have downloaded or met them, and what came of typing the guide's commands on it. The
mini world writes its own files as it likes to read them; these have what real files have: odd
sizes, damaged pictures, fields left out, spellings that vary. Read ``walk`` first.
"""
