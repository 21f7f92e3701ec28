"""BM25 as inner products against its formula as loops."""

import math

import numpy as np

from ecommerce_vl.evaluation.lexical import Bm25

TITLES = ["AA battery 4 pack", "AAA battery", "red cup cup cup", "", "USB cable 2 m red"]


def naive(query, texts, k1=1.2, b=0.75):
    docs = [text.lower().split() for text in texts]
    mean = sum(map(len, docs)) / len(docs)
    scores = []
    for doc in docs:
        score = 0.0
        for term in query.lower().split():
            n, frequency = sum(term in other for other in docs), doc.count(term)
            idf = math.log(1 + (len(docs) - n + 0.5) / (n + 0.5))
            score += idf * frequency * (k1 + 1) / (frequency + k1 * (1 - b + b * len(doc) / mean))
        scores.append(score)
    return scores


def test_scores_equal_the_formula():
    index = Bm25(TITLES)
    queries = ["battery", "red cup", "4 4 battery", "unknown", "m"]
    found = (index.queries(queries) @ index.documents.T).toarray()
    np.testing.assert_allclose(found, [naive(query, TITLES) for query in queries], atol=1e-12)


def test_titles_without_words_score_nothing():
    index = Bm25(["", "..."])
    assert (index.queries(["a"]) @ index.documents.T).nnz == 0
