"""What servers refuse, in their words: checks of a request's fields, and bodies of errors.

The words and their shapes are those that public issue threads quote.
"""

from collections.abc import Callable, Sequence

Refusal = tuple[int, object]
Check = Callable[[dict], Refusal | None]
MODEL = "gpt-4.1-mini"
QWEN = "Qwen/Qwen3-8B"


def error(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: object = None
) -> dict:
    """An error as OpenAI has it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


# ---------------------------------------------------------------------------------- what is refused

OPENAI_FIELDS = (
    "model messages temperature top_p n stream stop max_tokens max_completion_tokens seed user"
    " response_format presence_penalty frequency_penalty logit_bias logprobs top_logprobs tools"
    " tool_choice metadata store service_tier parallel_tool_calls modalities prediction"
)


def unknown_field(body: dict) -> Refusal | None:
    for name in body:
        if name not in OPENAI_FIELDS.split():
            return 400, error(f"Unrecognized request argument supplied: {name}")
    return None


def both_limits(body: dict) -> Refusal | None:
    if "max_tokens" in body and "max_completion_tokens" in body:
        said = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        return 400, error(said, param="max_tokens", code="invalid_parameter_combination")
    return None


def schema_keywords(body: dict) -> Refusal | None:
    """OpenAI's strict mode, before May 2025."""
    told = (body.get("response_format") or {}).get("json_schema")
    if told is None:
        return None
    name = told.get("name")

    def refused(place: tuple, what: str) -> Refusal:
        said = f"Invalid schema for response_format '{name}': In context={place}, {what}"
        return 400, error(said, param="response_format")

    def check(schema: object, place: tuple) -> Refusal | None:
        if not isinstance(schema, dict):
            return None
        for word in ("minLength", "maxLength", "minItems", "maxItems", "pattern", "default"):
            if word in schema:
                return refused(place, f"'{word}' is not permitted.")
        if schema.get("type") == "object":
            if schema.get("additionalProperties") is not False:
                what = "'additionalProperties' is required to be supplied and to be false."
                return refused(place, what)
            missing = sorted(schema["properties"].keys() - set(schema.get("required", ())))
            if missing:
                what = "'required' is required to be supplied and to be an array including every"
                return refused(place, f"{what} key in properties. Missing '{missing[0]}'.")
        for group in ("properties", "$defs"):
            for key, inner in schema.get(group, {}).items():
                if found := check(inner, (*place, group, key)):
                    return found
        return check(schema.get("items"), (*place, "items"))

    return check(told.get("schema"), ()) if told.get("strict") else None


def says_json(body: dict) -> Refusal | None:
    """Who asks for a JSON object has to say so in words."""
    wanted = (body.get("response_format") or {}).get("type") == "json_object"
    if wanted and "json" not in str(body["messages"]).lower():
        said = "'messages' must contain the word 'json' in some form, to use 'response_format' of"
        return 400, error(f"{said} type 'json_object'.", param="messages")
    return None


def no_format(types: Sequence[str], status: int, body: object) -> Check:
    """These response formats are refused."""

    def check(told: dict) -> Refusal | None:
        kind = (told.get("response_format") or {}).get("type")
        return (status, body) if kind in types else None

    return check


def forbidden(*names: str, nested: bool) -> Check:
    """Fields that pydantic forbids: bare, as FastAPI tells it, or nested as Mistral does."""

    def check(body: dict) -> Refusal | None:
        found = [
            {
                "type": "extra_forbidden",
                "loc": ["body", name],
                "msg": "Extra inputs are not permitted",
                "input": body[name],
            }
            for name in names
            if name in body
        ]
        if not found:
            return None
        if not nested:
            return 422, {"detail": found}
        told = error({"detail": found})["error"]
        return 422, {"object": "error"} | told | {"raw_status_code": 422}

    return check


def reasons_only(body: dict) -> Refusal | None:
    """gpt-5: another name for the limit, and one temperature."""
    if "max_tokens" in body:
        said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
        said += " 'max_completion_tokens' instead."
        return 400, error(said, param="max_tokens", code="unsupported_parameter")
    if body.get("temperature", 1) != 1:
        said = "Unsupported value: 'temperature' does not support"
        said += f" {body['temperature']} with this model. Only the default (1) value is supported."
        return 400, error(said, param="temperature", code="unsupported_value")
    return None


def no_temperature(body: dict) -> Refusal | None:
    """o3-mini knows no temperature at all."""
    if "temperature" in body:
        said = "Unsupported parameter: 'temperature' is not supported with this model."
        return 400, error(said, param="temperature", code="unsupported_parameter")
    return None


# -------------------------------------------------------------------------- what is told of prompts

AZURE_FILTER = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content"
        " management policy. Please modify your prompt and retry. To learn more about our content"
        " filtering policies please read our documentation:"
        " https://go.microsoft.com/fwlink/?linkid=2198766",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": {"filtered": False, "severity": "safe"},
                "violence": {"filtered": True, "severity": "medium"},
            },
        },
    }
}


LOGIN = (
    "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1>"
    "<form action='/login' method='post'><input name='user'></form></body></html>"
)
LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
NO_VERSION = (404, {"error": {"code": "404", "message": "Resource not found"}})
LM_STUDIO = "'response_format.type' must be 'json_schema' or 'text'"
NOWHERE = "Unexpected endpoint or method. (POST /chat/completions)"
NO_SCHEMA = "This response_format type is unavailable now"
QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more"
    " information on this error, read the docs:"
    " https://platform.openai.com/docs/guides/error-codes/api-errors."
)
WRONG_KEY = (
    "Incorrect API key provided: PART. You can find your API key at"
    " https://platform.openai.com/account/api-keys."
)
UNKNOWN = {  # vLLM's words since 0.10
    "error": {
        "message": f"The model `{MODEL}` does not exist.",
        "type": "NotFoundError",
        "param": "model",
        "code": 404,
    }
}
BARE_LIST = [{"id": QWEN, "object": "model", "type": "chat", "context_length": 40960}]
