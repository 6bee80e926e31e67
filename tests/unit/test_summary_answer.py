"""What becomes a summary: the object that was asked for, storable and bounded; no refusal, no thoughts, no prose."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain import mend
from worker.errors import SummaryUnusable
from worker.summaries import answer as answers
from worker.summaries.condense import TEXT_LIMIT


def read(answer: str) -> tuple[str, list[str]]:
    """Read the answer of a model."""
    return answers.read(answer, model="m")


FORMED = {"summary": "Ada likes tea.", "topics": ["tea", "Ada"]}


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(FORMED),
        f"```json\n{json.dumps(FORMED, indent=2)}\n```",
        f"Here is the summary you asked for:\n\n{json.dumps(FORMED)}\n\nAnything else?",
        json.dumps({**FORMED, "more": [1, {}]}),
    ],
)
def test_a_formed_answer_is_read_whatever_stands_around_it(answer: str) -> None:
    """Fences and politeness do not matter."""
    text, topics = read(answer)

    assert (text, topics) == ("Ada likes tea.", ["tea", "Ada"])


DRAFT = '{"summary": "a draft", "topics": []}'
WHOLE = json.dumps(FORMED)


@pytest.mark.parametrize(
    "answer",
    [
        f'<think>The user wants {{"summary": ...}}. I note {{name: Ada}}.</think>\n{WHOLE}',
        f"<think>{DRAFT} better:</think>{WHOLE}",
        f"{DRAFT} better:\n</think>\n\n{WHOLE}",
        f"<Thinking>{DRAFT}</Thinking>{WHOLE}",
        f"[THINK]{DRAFT}[/THINK]{WHOLE}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{WHOLE}",
        f"I begin with {DRAFT}, and end with {WHOLE}",
        f"[{WHOLE}]",
        f"{WHOLE}\n{WHOLE}",
        f"{WHOLE}\nHope this helps :}} ",
        f'{WHOLE}\nThe form was {{"summary": "...", "topics": ["..."]}}.',
        json.dumps({"answer": FORMED}),
        WHOLE[:-1],
        WHOLE[:-2],
    ],
)
def test_the_last_object_that_fits_is_the_answer(answer: str) -> None:
    """Thoughts hold braces and drafts. A last bracket can be missing."""
    assert read(answer) == ("Ada likes tea.", ["tea", "Ada"])


def test_a_summary_may_be_about_tags_and_have_lines() -> None:
    """What stands in the object is never taken for thoughts."""
    text = "They ask what <think> and </think> mean.\n{x}"

    assert read(f'{{"summary": "{text}", "topics": []}}') == (text, [])
    assert read(json.dumps({"summary": text, "topics": ["{"]})) == (text, ["{"])


@pytest.mark.parametrize(
    "answer",
    [
        "Ada likes tea.",
        "Ada {likes tea.",
        "}{",
        "{not json}",
        '["summary", "topics"]',
        '{"summary": ["Ada", "likes"], "topics": ["tea"]}',
        '{"summary": {"text": "Ada"}, "topics": []}',
        '{"summary": null, "topics": []}',
        '{"text": "Ada likes tea."}',
        '{"summary": "Ada likes t',
        '{"summary": ' + "[" * 50_000,
        '{"a": ' * 50_000,
        "<think>" * 50_000,
        f"<think>I was thinking {DRAFT}",
        f"<think>secret plan {DRAFT}</think>Ada has a parcel.",
        "",
        "  \n",
        '{"summary": "", "topics": []}',
        '{"summary": "...", "topics": ["..."]}',
        '```\n{"summary": " \\n "}\n```',
    ],
)
def test_no_other_answer_becomes_a_summary(answer: str) -> None:
    """Neither words alone, nor an object that does not fit, nor half of one, nor one that says nothing."""
    with pytest.raises(SummaryUnusable):
        read(answer)


REFUSALS = (
    "I'm sorry, but I can't assist with that request.",
    "I’m sorry, I can’t help with that.",
    "Sorry, but I cannot continue this conversation.",
    "I cannot summarize this conversation.",
    "As an AI language model, I am not able to do this.",
    "I am unable to help.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.",
    "抱歉，我无法协助。",
    "Ich kann diese Anfrage leider nicht erfüllen.",
    "Leider kann ich dabei nicht helfen.",
    "Je ne peux pas vous aider avec cela.",
    "No puedo ayudar con eso.",
    "Não posso ajudar com isso.",
    "Non posso aiutarti con questa richiesta.",
    "К сожалению, я не могу помочь с этим.",
    "お手伝いできません。",
    "죄송합니다. 도와드릴 수 없습니다.",
    "作为一个AI语言模型，我无法总结。",
    "非常抱歉，我不能。",
    "Het spijt me, ik kan dat niet.",
    "Przepraszam, ale nie mogę.",
    "عذراً، لا أستطيع",
    "Unable to comply with this request.",
    "I must respectfully decline.",
    "As a language model, I cannot do that.",
    "This request violates our policy.",
)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_in_the_form_is_none(refusal: str) -> None:
    """A model that must answer in a schema refuses inside of it."""
    with pytest.raises(SummaryUnusable, match="a refusal"):
        read(json.dumps({"summary": refusal, "topics": []}))


@pytest.mark.parametrize(
    "text",
    [
        "As an AI researcher, Ada wants a list of papers.",
        "Unable to log in since Monday, Ada asked for a reset of her password.",
        "Leider kam Adas Paket nicht an; eine Erstattung wurde zugesagt.",
        "К сожалению, посылка Ады не пришла.",
        "The user is sorry. The assistant cannot assist with refunds; it refused twice.",
        "I: Ada. She says: I cannot come.",
        "I'm sorry was all that Bob wrote. " + "Ada answered at length. " * 20,
    ],
)
def test_a_summary_about_refusals_is_one(text: str) -> None:
    """Only a short text that begins like a refusal is taken for one."""
    assert read(json.dumps({"summary": text, "topics": []}))[0] == text.strip()


@pytest.mark.parametrize(
    ("topics", "wanted"),
    [
        (None, []),
        ("tea", []),
        ({"tea": 1}, []),
        ([1, None, " tea ", "", {"a": 1}, "milk"], ["tea", "milk"]),
        (["t"] * 100_000, ["t"] * answers.TOPICS),
        (["t" * 1_000_000], ["t" * (answers.TOPIC_LIMIT - 8) + " … (cut)"]),
    ],
)
def test_topics_of_any_type_become_few_short_texts(topics: Any, wanted: list[str]) -> None:
    """They are for people to find a session by; nothing fails for them."""
    assert read(json.dumps({"summary": "s", "topics": topics})) == ("s", wanted)


def test_a_summary_of_a_megabyte_is_cut() -> None:
    """The next prompt stays bounded."""
    text, _ = read(json.dumps({"summary": "x" * 1_000_000, "topics": []}))

    assert len(text) == TEXT_LIMIT
    assert text.endswith("… (cut)")


@given(st.text(alphabet=st.characters(codec=None), max_size=50), st.lists(st.text(max_size=10), max_size=3))
def test_whatever_was_read_can_be_stored(summary: str, topics: list[str]) -> None:
    r"""Inside JSON a model can spell what no database takes: `\u0000`, and half of a surrogate pair."""
    spelled = json.dumps({"summary": f"s{summary}\x00\ud800", "topics": [*topics, "\x00"]})

    text, named = read(spelled)

    for part in (text, *named):
        assert part == mend(part)
