"""The token report against counts by hand, with a tokenizer whose every token is a word."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ecommerce_vl.data.token_report import sample_of, token_lines, token_report
from ecommerce_vl.data.tokenizer import TextTokenizer, train_tokenizer

TITLES = ["red dress", "red shoe red", "rotes Kleid", "", "dress"]
LANGUAGES = ["en", "en-US", "de_DE", "de", ""]


@pytest.fixture(scope="module")
def by_word() -> TextTokenizer:
    vocabulary = {name: row for row, name in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "dress", "shoe"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return TextTokenizer(tokenizer, max_length=4)


def test_counts_by_hand(by_word):
    rows = {row["language"]: row for row in token_report(TITLES, LANGUAGES, by_word)}
    assert list(rows) == ["all", "en", "de", "unknown"]
    english = {"titles": 2, "tokens_per_word": 1.0, "unknown_share": 0.0, "truncated_share": 0.5, "mean_tokens": 4.5}
    assert english.items() <= rows["en"].items()
    assert rows["en"]["tokens_per_character"] == pytest.approx(5 / 21)
    assert rows["en"]["p95_tokens"] == pytest.approx(4.95)
    assert rows["de"]["unknown_share"] == 1.0 and rows["de"]["titles"] == 1
    assert rows["all"]["titles"] == 4 and rows["all"]["unknown_share"] == pytest.approx(2 / 8)


def test_bytes_are_never_unknown_but_cost_tokens():
    tokenizer = train_tokenizer(["red dress", "red shoe"] * 50, vocab_size=300, max_length=16)
    english, japanese = token_report(["red dress", "赤い綿のドレス"], ["en", "ja"], tokenizer)[1:]
    assert english["unknown_share"] == japanese["unknown_share"] == 0.0
    assert japanese["tokens_per_character"] > 5 * english["tokens_per_character"]
    assert japanese["truncated_share"] == 1.0


def test_a_report_disturbs_no_batch(by_word):
    before = by_word(TITLES)
    np.testing.assert_array_equal(by_word.lengths(TITLES), [4, 5, 4, 2, 3])
    token_report(TITLES, LANGUAGES, by_word)
    for one, other in zip(before, by_word(TITLES), strict=True):
        np.testing.assert_array_equal(one, other)


def test_lines_for_people(by_word):
    lines = token_lines(token_report(TITLES, LANGUAGES, by_word), max_length=4, limit=2)
    assert len(lines) == 5 and lines[0].endswith("over 4") and lines[-1] == "and 1 more languages"
    assert "100.0%" in lines[3] and lines[3].startswith("de")
    assert len({len(line) for line in lines[:-1]}) == 1
    assert [line.split()[0] for line in token_lines(token_report(["red"], ["en"], by_word), max_length=4)] == [
        "language",
        "en",
    ]


def test_no_titles_no_rows(by_word):
    assert token_report(["", " "], ["en", "de"], by_word) == []
    assert token_lines([], max_length=4) == []


def test_a_sample_is_spread_over_the_records():
    records = [{"title": f"title {row}", "locale": "en"} for row in range(10)]
    assert sample_of(records, limit=4) == (["title 0", "title 3", "title 6", "title 9"], ["en"] * 4)
    assert len(sample_of(records)[0]) == 10
