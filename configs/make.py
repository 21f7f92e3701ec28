"""MAKE (2301.12646): query retrieval with a query encoder of its own, modal adaptation and keyword enhancement.

    python -m ecommerce_vl.train --config=configs/make.py:base --workdir=RUN --config.data.path=DATA

The argument after the colon is a size or a recipe of configs/query_retrieval.py.
"""

from ml_collections import ConfigDict

from configs import query_retrieval


def get_config(size: str = "base") -> ConfigDict:
    config = query_retrieval.get_config(size)
    config.size = f"make-{size}"
    config.separate_query = True
    config.modal_adaptation = True
    config.weights.qim = 0.0  # no objective of MAKE
    config.weights.keyword = config.weights.qpm or 1.0
    config.data.keywords = 8
    return config
