"""Languages of captions, on sentences of ten languages written for this."""

import sys

import pyarrow as pa
import pytest

from diorama.core.errors import UserError
from diorama.data.captions import Language

PLANTED = {
    "en": ("two children are building a sandcastle near the sea", "An old man in a grey coat reads on a bench."),
    "de": ("zwei Kinder bauen eine Sandburg am Meer", "Ein alter Mann im grauen Mantel liest auf einer Bank."),
    "fr": ("deux enfants construisent un château de sable", "Un vieil homme en manteau gris lit sur un banc."),
    "es": ("dos niños construyen un castillo de arena junto al mar", "Un anciano con abrigo gris lee en un banco."),
    "it": (
        "due bambini costruiscono un castello di sabbia",
        "Un vecchio con il cappotto grigio legge su una panchina.",
    ),
    "ru": ("двое детей строят замок из песка у моря", "Старик в сером пальто читает газету на скамейке."),
    "zh": ("一只狗在海滩上奔跑", "一位穿灰色大衣的老人坐在长椅上看报纸。"),
    "ja": ("二人の子供が海辺で砂の城を作っています", "灰色のコートを着た老人がベンチで新聞を読んでいる。"),
    "hi": ("दो बच्चे समुद्र के किनारे रेत का महल बना रहे हैं", "भूरे कोट में एक बूढ़ा आदमी बेंच पर अखबार पढ़ रहा है।"),
    "ar": ("طفلان يبنيان قلعة من الرمل قرب البحر", "رجل عجوز يرتدي معطفا رماديا يقرأ الجريدة على مقعد."),
}


def codes(stage: Language, texts: list) -> dict:
    table = pa.table({"id": [str(n) for n in range(len(texts))], "caption": pa.array(texts, pa.string())})
    return dict(stage.prepare(None, None)(table))


@pytest.fixture
def _installed():
    pytest.importorskip("py3langid", reason="the extra 'captions' is not installed")


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("candidates", [(), tuple(PLANTED)])
def test_sentences_are_recognised(candidates):
    found = codes(Language(candidates=candidates), [text for texts in PLANTED.values() for text in texts])
    assert found["code"] == [code for code in PLANTED for _ in range(2)]
    assert all(0 < sure <= 1 for sure in found["sure"])


@pytest.mark.usefixtures("_installed")
def test_no_caption_has_no_language_and_the_model_is_part_of_the_stage():
    assert codes(Language(), [None, " "]) == {"code": [None, None], "sure": [None, None]}
    assert all(path.exists() for path in Language().weights)
    with pytest.raises(UserError, match="languages are given by their codes"):
        Language(candidates=("english",)).prepare(None, None)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid", None)
    with pytest.raises(UserError, match=r"pip install 'diorama\[captions\]'"):
        _ = Language().weights
