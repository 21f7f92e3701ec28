"""Fine-tuning of a query retrieval run on search logs, with an embedding of each product's id beside its content.

    python -m ecommerce_vl.train --config=configs/query_finetune.py:base --workdir=TUNED --config.data.path=DATA \\
        --config.init.run=RUN

RUN was trained with configs/query_retrieval.py or configs/make.py; its sizes and its tokenizer replace those of this
file. The argument after the colon is a size or a recipe of configs/query_retrieval.py: how long, and at which batch.
"""

from ml_collections import ConfigDict

from configs import query_retrieval


def get_config(size: str = "base") -> ConfigDict:
    config = query_retrieval.get_config(size)
    config.size = f"{size}-tuned"
    config.init.run = ""  # the run directory to begin from
    config.ids = ConfigDict({"dropout": 0.2})  # of ids, so that new products do without
    config.data.id_rows = 32_768 if size == "sample" else 1_048_576  # of the table; 16 for each product, or more
    for name in ("mlm", "mpm", "qpm", "qim", "keyword"):
        config.weights[name] = 0.0
    config.loss.hard = True  # a hard product of the batch for each row, as many as there are random ones
    config.augment.crop_scale, config.text.word_dropout = (0.9, 1.0), 0.0
    config.optimizer.name, config.optimizer.learning_rate = "adamw", 1e-4
    config.optimizer.frozen_blocks = 0.5  # share of the blocks, from the bottom, that stay as they are
    return config
