"""The world's LLM provider: a rule-based writer behind OpenAI's protocol.

In: HTTP requests, a prompt each. Out: completions with triples, now and then a broken one. Read
``server`` first, then ``writer`` (what is said); ``batches`` is the Batch API.
"""
