"""Read a summary from a model's answer. Pure.

The prompt asks for a JSON object, and only such an object becomes a summary. A refusal, thoughts or any other text
never replaces the version before. Models put the object between thoughts, code fences and sentences, and write drafts
of it: the last object that fits is the answer.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from worker.domain import mend
from worker.errors import SummaryUnusable
from worker.summaries.condense import TEXT_LIMIT, bounded

TOPICS, TOPIC_LIMIT = 20, 100
SEARCHED = 200_000  # characters at the end of an answer in which the object is searched for
TRIES = 200  # opening braces that are tried, so that no answer takes long to read
REFUSAL_LIMIT = 400  # characters; a refusal is short, and a longer text that begins like one has facts
_THOUGHT_TAG = re.compile(r"[<\[◁](/?)(?:think|thinking|thoughts?|reasoning|analysis)[>\]▷]", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\W*(?:(?:i'm|i am|we're|we are)\s+(?:\w+\s+)?(?:sorry|unable|afraid|not able|not comfortable)\b"
    r"|(?:sorry|apologies|my apologies|unfortunately)\b.{0,20}\bi\b"
    r"|i\s+(?:apologi[sz]e|can't|cannot|can not|won't|will not|couldn't|could not)\b"
    r"|i (?:must|have to) (?:\w+ )?decline\b"
    r"|i\s+(?:don't|do not) feel\b|i'm not going to\b|i'd rather not\b|(?:i'm|i am) (?:programmed|an ai)\b"
    r"|as an? (?:large )?(?:ai|language)\b(?: assistant| language model| model)?,? (?:i|we)\b|request denied"
    r"|(?:unable to|(?:we )?cannot) (?:comply|assist|help|process|provide|summari[sz]e|fulfil)"
    r"|this (?:request|content|conversation) (?:may )?(?:violates?|goes against)\b"
    r"|(?:es )?tut mir leid|entschuldigung|(?:leider )?kann ich\b.{0,60}\bnicht\b|ich kann\b.{0,60}\bnicht\b"
    r"|leider kann ich|lo siento|no puedo (?:ayud|cumpl|resum|proces|hacer|proporc)|je suis désolé|désolé"
    r"|je ne (?:peux|suis pas|saurais)|mi dispiace|non posso (?:aiut|forn|soddisf|elabor)|desculpe"
    r"|não (?:posso|consigo) (?:ajud|forn|atend|process)|het spijt me|przepraszam|przykro mi|üzgünüm"
    r"|извините|простите|(?:к сожалению,? )?я не могу|عذر|آسف|لا (?:أستطيع|يمكنني)|क्षमा करें|मुझे खेद"
    r"|(?:很|非常)?(?:抱歉|对不起)|作为一?[个名]?(?:AI|人工智能|语言模型)|(?:我)?(?:无法|不能)(?:提供|满足|协助|处理|完成)|我(?:无法|不能)"
    r"|申し訳|お(?:手伝い|答え)(?:は)?できません|죄송|도와드릴 수 없)",
    re.IGNORECASE | re.DOTALL,
)
_DECODER = json.JSONDecoder(strict=False)  # models write line breaks into strings


def read(answer: str, *, model: str) -> tuple[str, list[str]]:
    """Return the summary and the topics in the answer of *model*, mended for the database and bounded.

    Raises:
        SummaryUnusable: the answer has no object with a summary, or the summary is blank or a refusal.
    """
    fields = next(_objects(answer), None)
    if fields is None:
        raise SummaryUnusable(model=model, problem="no JSON object with a summary")
    text, topics = _storable(fields["summary"], TEXT_LIMIT), fields.get("topics")
    if len(text) <= REFUSAL_LIMIT and _REFUSAL.match(text.replace("\u2019", "'")):
        raise SummaryUnusable(model=model, problem="a refusal")
    texts = [topic for topic in topics if isinstance(topic, str)] if isinstance(topics, list) else []
    storable = [_storable(topic, TOPIC_LIMIT) for topic in texts]
    return text, [topic for topic in storable if topic][:TOPICS]


def _objects(answer: str) -> Iterator[dict[str, Any]]:
    """Yield the objects with a summary in *answer*, the last one first, without those in thoughts."""
    answer = answer.strip()
    whole, end = _decode(answer, 0)
    if whole is not None and end == len(answer):  # a summary may be about tags of thoughts
        yield whole
    text = _without_thoughts(answer)[-SEARCHED:].rstrip()
    begin = len(text)
    for _ in range(TRIES):
        begin = text.rfind("{", 0, begin)
        if begin < 0:
            break
        if (found := _decode(text, begin)[0]) is not None:
            yield found
    begin = text.rfind('{"summary"')
    for closing in ("}", "]}", '"]}') if begin >= 0 else ():  # only its topics can be cut off, never its summary
        if (found := _decode(text[begin:] + closing, 0)[0]) is not None:
            yield found


def _without_thoughts(text: str) -> str:
    """Return *text* without thoughts between tags. The first tag, or the last one, can be missing."""
    kept: list[str] = []
    end, is_open = 0, False
    for tag in _THOUGHT_TAG.finditer(text):
        if tag[1]:
            if not is_open:
                kept.clear()
            end, is_open = tag.end(), False
        elif not is_open:
            kept.append(text[end : tag.start()])
            is_open = True
    return "".join(kept if is_open else [*kept, text[end:]])


def _decode(text: str, begin: int) -> tuple[dict[str, Any] | None, int]:
    """Return the object at *begin* if it has a summary with words, and where the object ends."""
    try:
        value, end = _DECODER.raw_decode(text, begin)
    except (ValueError, RecursionError):
        return None, begin
    summary = value.get("summary") if isinstance(value, dict) else None
    return (value if isinstance(summary, str) and any(map(str.isalnum, mend(summary))) else None), end


def _storable(text: str, limit: int) -> str:
    return bounded(mend(text).strip(), limit)
