"""The stand-in refuses what OpenAI's servers refuse, in words taken from public reports of them."""

import json

import httpx
import pytest

from lskd_nb.rehearsal import server
from lskd_nb.teacher.parsing import TRIPLES_FORM, triples_and_rejects
from lskd_nb.teacher.prompts import Prompt

TOLD = "Place: beach\nRegions:\n[0] dog: a dog\n[2] woman: a woman reading"
SYSTEMS = {
    "id": "Refer to regions by their id alone.\nWrite 3 triples",
    "description": "by what they are, followed by their id when first mentioned\nWrite 3 triples",
}


def request(**changes) -> dict:
    messages = [{"role": "system", "content": SYSTEMS["id"]}, {"role": "user", "content": TOLD}]
    return {"model": "gpt-4.1-mini", "messages": messages, "seed": 0} | changes


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"model": "gpt-3.5-turbo"}, 404, "The model `gpt-3.5-turbo` does not exist"),
        ({"guided_json": {}}, 400, "Unrecognized request argument supplied: guided_json"),
        ({"messages": []}, 400, "Invalid 'messages': empty array"),
        ({"model": "gpt-5-mini", "max_tokens": 9}, 400, "Use 'max_completion_tokens' instead"),
        ({"model": "gpt-5-mini", "temperature": 0.5}, 400, "does not support 0.5"),
    ],
)
def test_what_is_refused(changes, status, words):
    found = server.refused(request(**changes))
    assert found[0] == status and words in found[1]["error"]["message"]


def test_strict_schemas_are_looked_at():
    assert server.refused(request(response_format=TRIPLES_FORM.response_format)) is None
    loose = json.loads(json.dumps(TRIPLES_FORM.response_format))
    loose["json_schema"]["schema"]["additionalProperties"] = True
    assert "'additionalProperties' is required" in str(
        server.refused(request(response_format=loose))
    )
    loose = json.loads(json.dumps(TRIPLES_FORM.response_format))
    loose["json_schema"]["schema"]["properties"]["triples"]["items"]["required"].remove("rationale")
    assert "'required' is required" in str(server.refused(request(response_format=loose)))


def test_what_it_writes_is_mostly_valid_and_never_always():
    valid, reasons = 0, set()
    for family, system in SYSTEMS.items():
        for seed in range(60):
            text = server.written(
                [{"role": "system", "content": system}, {"role": "user", "content": TOLD}], seed
            )
            prompt = Prompt("m", family, (0, 2), (), family)
            reply = dict(text=text, finish="stop", refusal=None, usage=[1, 1])
            worth = triples_and_rejects(prompt, "k", reply, "gpt-4.1-mini")
            valid += len(worth.rows)
            reasons |= {r["reason"] for r in worth.rejects}
    assert 0.8 < valid / 360 < 1 and reasons == {"mentions a region that was not offered"}


def test_over_the_wire():
    with server.serving() as url, httpx.Client(base_url=url, trust_env=False) as client:
        nobody = client.get("/models")
        assert nobody.status_code == 401 and "didn't provide an API key" in nobody.text
        wrong = client.get("/models", headers={"Authorization": "Bearer sk-1234567890abcd"})
        assert wrong.status_code == 401 and "Incorrect API key provided" in wrong.text
        assert "sk-1234567890abcd" not in wrong.text
        client.headers["Authorization"] = f"Bearer {server.KEY}"
        assert {m["id"] for m in client.get("/models").json()["data"]} == set(server.MODELS)
        seen = [client.post("/chat/completions", json=request(seed=n)) for n in range(30)]
        assert {r.status_code for r in seen} == {200, 429}
        assert all("retry-after-ms" in r.headers for r in seen if r.status_code == 429)
        assert json.loads(seen[0].json()["choices"][0]["message"]["content"])["triples"]
