"""Who takes what, in whose words: servers and models as their users meet them.

What they refuse, and how, is in ``refusals``. A personality is ``good`` where every reply that can
be read is to be read; the others end the run, and say ``why``: the server's words that the last
line must hold, and what it must tell to change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from . import shapes
from .refusals import (
    AZURE_FILTER,
    BARE_LIST,
    LM_STUDIO,
    LOGIN,
    MODEL,
    NO_SCHEMA,
    NO_VERSION,
    NOWHERE,
    QUOTA,
    QWEN,
    UNKNOWN,
    WRONG_KEY,
    Check,
    Refusal,
    both_limits,
    error,
    forbidden,
    no_format,
    no_temperature,
    reasons_only,
    says_json,
    schema_keywords,
    unknown_field,
)
from .shapes import Answer, Asked, Shape

DEPLOYMENT = "/openai/deployments/gpt-4.1-mini"
VERSION = {"api-version": "2024-10-21"}


@dataclass(frozen=True)
class Personality:
    """A server: ``base`` is the path (and query) of the base_url that the notebook is given,
    ``at`` the one where it answers. ``parameters`` go to the notebook besides base_url and model.
    ``loses``: some of its replies hold less than was written.
    """

    title: str
    replies: tuple[Shape, ...] = (shapes.plain,)
    model: str = MODEL
    base: str = "/v1"
    at: str = "/v1"
    serves: str = ""  # the only model it has; "": any
    unknown_model: Refusal | None = None
    refuses: tuple[Check, ...] = ()
    refuses_all: Refusal | None = None  # of every request; "KEY" and "PART" stand for the key
    models: Refusal | None = None  # what GET /models says, None: OpenAI's list
    elsewhere: Refusal = (404, {"detail": "Not Found"})
    query: Mapping[str, str] = field(default_factory=dict)  # wanted
    loading: int = 0  # so many requests find it loading
    parameters: Mapping[str, object] = field(default_factory=dict)
    loses: bool = False
    why: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not self.why


def filtered(asked: Asked) -> Answer:
    """Azure's filter, struck by the prompt."""
    return Answer(AZURE_FILTER, status=400, whole=False)


# ----------------------------------------------------------------------------------------- the cast

GOOD = {
    "openai": Personality(
        "OpenAI, gpt-4.1, strict, as before May 2025",
        refuses=(unknown_field, both_limits, schema_keywords, says_json),
    ),
    "gateway": Personality(
        "A gateway with json_object alone (DeepSeek)",
        (shapes.plain, shapes.extra_fields),
        "deepseek-chat",
        refuses=(no_format(("json_schema",), 400, error(NO_SCHEMA)), says_json),
    ),
    "words": Personality(
        "A gateway without response formats",
        (shapes.fenced, shapes.in_words, shapes.plain),
        refuses=(
            no_format(
                ("json_schema", "json_object", "text"),
                400,
                error("Unrecognized request argument supplied: response_format"),
            ),
        ),
    ),
    "forbidding": Personality(
        "A proxy that forbids what it does not know",
        (shapes.plain, shapes.fenced),
        refuses=(
            forbidden("response_format", nested=False),
            forbidden("seed", "max_completion_tokens", nested=False),
        ),
    ),
    "gpt-5": Personality(
        "OpenAI, gpt-5: reasons, max_tokens 3,000 given",
        (shapes.plain, shapes.starved),
        "gpt-5-mini",
        refuses=(unknown_field, reasons_only),
        parameters={"max_tokens": 3000, "temperature": 0.7},
        loses=True,
    ),
    "o3-mini": Personality(
        "OpenAI, o3-mini: no temperature", model="o3-mini", refuses=(unknown_field, no_temperature)
    ),
    "azure": Personality(
        "Azure: api-version, some prompts filtered",
        (shapes.plain, filtered),
        base=f"{DEPLOYMENT}?api-version={VERSION['api-version']}",
        at=DEPLOYMENT,
        query=VERSION,
        elsewhere=NO_VERSION,
        refuses=(unknown_field,),
        loses=True,
    ),
    "azure-filter": Personality(
        "Azure: some replies filtered",
        (
            shapes.plain,
            shapes.filtered_end(""),
            shapes.filtered_end('{"triples": [{"question": "Why'),
        ),
        base=f"{DEPLOYMENT}?api-version={VERSION['api-version']}",
        at=DEPLOYMENT,
        query=VERSION,
        elsewhere=NO_VERSION,
        loses=True,
    ),
    "vllm": Personality(
        "vLLM, a thinking model",
        (shapes.plain, shapes.beside("reasoning"), shapes.instead("reasoning", None)),
        QWEN,
        serves=QWEN,
        unknown_model=(404, UNKNOWN),
    ),
    "vllm-older": Personality(
        "vLLM before 0.12, a thinking model",
        (shapes.beside("reasoning_content"), shapes.instead("reasoning_content", None)),
        QWEN,
        serves=QWEN,
    ),
    "ollama": Personality(
        "Ollama, some replies cut at its context's length",
        (shapes.fenced, shapes.beside("reasoning"), shapes.cut("stop", heals=False)),
        "qwen3:8b",
        loses=True,
    ),
    "llama.cpp": Personality(
        "llama.cpp, loading at first, a thinking model",
        (shapes.plain, shapes.instead("reasoning_content", "")),
        "qwen3-8b.gguf",
        loading=3,
    ),
    "sglang": Personality(
        "SGLang, a thinking model", (shapes.plain, shapes.instead("reasoning_content", None)), QWEN
    ),
    "lm-studio": Personality(
        "LM Studio",
        (shapes.plain, shapes.beside("reasoning_content")),
        "qwen/qwen3-8b",
        refuses=(no_format(("json_object",), 400, {"error": LM_STUDIO}),),
        elsewhere=(200, {"error": NOWHERE}),
    ),
    "mistral": Personality(
        "Mistral: content in parts, no seed",
        (shapes.parts(1, thoughts=True), shapes.parts(3, thoughts=False), shapes.plain),
        "magistral-small-latest",
        refuses=(forbidden("seed", "max_completion_tokens", nested=True),),
    ),
    "openrouter": Personality(
        "OpenRouter: comments, errors with HTTP 200",
        (shapes.kept_alive, shapes.error_for_answer, shapes.error_midway),
        "openai/gpt-4.1-mini",
        loses=True,
    ),
    "together": Personality(
        "Together: /models is a bare list", model=QWEN, models=(200, BARE_LIST)
    ),
    "proxy-page": Personality("A proxy: /models is a page", models=(200, LOGIN)),
    "proxy-null": Personality("A proxy: /models is null", models=(200, None)),
    "proxy-404": Personality(
        "A proxy without /models", models=(404, {"error": "Invalid URL (GET /v1/models)"})
    ),
    "proxy-empty": Personality("A proxy: /models is empty", models=(200, "")),
    "thinking": Personality(
        "A model that thinks aloud",
        (shapes.thinking, shapes.thinking_unopened, shapes.thinking_fenced),
        QWEN,
    ),
    "small-wrapped": Personality(
        "A small model: fences and words",
        (shapes.fenced, shapes.fenced_in_words, shapes.in_words),
        "small",
    ),
    "small-syntax": Personality(
        "A small model: JSON with errors",
        (shapes.trailing_commas, shapes.raw_newlines, shapes.single_quotes),
        "small",
    ),
    "small-structure": Personality(
        "A small model: other structures",
        (shapes.root_list, shapes.single_object, shapes.json_in_a_string, shapes.extra_fields),
        "small",
        loses=True,
    ),
    "small-cut": Personality(
        "A small model: cut in the third triple",
        (shapes.cut("length", heals=True), shapes.cut("stop", heals=True), shapes.plain),
        "small",
        loses=True,
    ),
    "small-regions": Personality(
        "A small model: regions in other spellings, and of nobody",
        (shapes.regions_spelled, shapes.regions_of_nobody),
        "small",
        loses=True,
    ),
}
ENDING = {
    "no-quota": Personality(
        "An account that is empty",
        refuses_all=(429, error(QUOTA, "insufficient_quota", code="insufficient_quota")),
        why=("You exceeded your current quota", "account"),
    ),
    "wrong-key": Personality(
        "A wrong key, part of it echoed",
        refuses_all=(401, error(WRONG_KEY, code="invalid_api_key")),
        models=(401, error(WRONG_KEY, code="invalid_api_key")),
        why=("Incorrect API key provided", "OPENAI_API_KEY"),
    ),
    "wrong-key-echoed": Personality(
        "A wrong key, echoed by a proxy",
        refuses_all=(401, {"error": "Authentication Error: 'KEY' is no key of this proxy"}),
        models=(200, BARE_LIST),
        why=("Authentication Error", "OPENAI_API_KEY"),
    ),
    "wrong-model": Personality(
        "vLLM, another model than asked for",
        serves=QWEN,
        unknown_model=(404, UNKNOWN),
        why=("does not exist", QWEN),
    ),
    "wrong-model-ollama": Personality(
        "Ollama, a model that is not pulled",
        serves="qwen3:8b",
        unknown_model=(404, error(f'model "{MODEL}" not found, try pulling it first', "api_error")),
        why=("try pulling it first", "qwen3:8b"),
    ),
    "no-v1": Personality(
        "vLLM, base_url without /v1", base="", model=QWEN, why=("Not Found", "base_url", "/v1")
    ),
    "no-v1-lm-studio": Personality(
        "LM Studio, base_url without /v1",
        base="",
        elsewhere=(200, {"error": NOWHERE}),
        why=("Unexpected endpoint or method", "base_url", "/v1"),
    ),
    "no-version": Personality(
        "Azure without api-version",
        base=DEPLOYMENT,
        at=DEPLOYMENT,
        query=VERSION,
        elsewhere=NO_VERSION,
        why=("Resource not found", "base_url"),
    ),
    "login-page": Personality(
        "A login page instead of an API",
        refuses_all=(200, LOGIN),
        models=(200, LOGIN),
        why=("Sign in to continue", "base_url"),
    ),
    "empty": Personality(
        "A model that says nothing", (shapes.empty,), "small", why=("empty", "model")
    ),
    "prose": Personality(
        "A model that writes no JSON",
        (shapes.prose,),
        "small",
        why=("I can't see the image", "model"),
    ),
}
ALL = GOOD | ENDING
