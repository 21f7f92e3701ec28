"""BM25, the baseline of every search engine, as sparse vectors: the score is an inner product like all others.

The invariant: `queries(texts) @ documents.T` are the BM25 scores, so the same exact search ranks them.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

WORD = r"\b\w+\b"  # single characters count: sizes and model numbers are made of them
K1, B = 1.2, 0.75  # the customary saturation and length normalisation


class Bm25:
    """An index of M texts. `documents`: CSR float64 (M, terms), the weight of each term in each text.

    Source: Robertson and Zaragoza (2009), with the idf log(1 + (M - n + 1/2) / (n + 1/2)), which is never negative.
    """

    def __init__(self, texts: Sequence[str]):
        self._counter = CountVectorizer(token_pattern=WORD)
        try:
            counts = self._counter.fit_transform(texts).astype(np.float64).tocsr()
        except ValueError:  # no text has a word
            self._counter, self.documents = None, csr_matrix((len(texts), 1))
            return
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        having = np.bincount(counts.indices, minlength=counts.shape[1])
        idf = np.log1p((len(texts) - having + 0.5) / (having + 0.5))
        slack = K1 * (1.0 - B + B * lengths / lengths.mean())
        row_of = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))
        counts.data = idf[counts.indices] * counts.data * (K1 + 1.0) / (counts.data + slack[row_of])
        self.documents = counts

    def queries(self, texts: Sequence[str]) -> csr_matrix:
        """CSR float64 (N, terms): how often each known term comes in each query."""
        if self._counter is None:
            return csr_matrix((len(texts), 1))
        return self._counter.transform(texts).astype(np.float64).tocsr()
