"""GCL: two towers over queries and products, the control arm of configs/query_retrieval.py.

    python -m ecommerce_vl.train --config=configs/gcl.py:small --workdir=RUN --config.data.path=DATA

The argument after the colon is a size of configs/eclip.py; or a recipe for a catalog: sample, as that of
configs/query_retrieval.py. DATA needs query pairs, as there.
"""

from ml_collections import ConfigDict

from configs.common import size_or_recipe
from configs.eclip import SIZES, two_towers
from configs.query_retrieval import by_muon


def sized(size: str) -> ConfigDict:
    config = two_towers(size, source="query_pairs")
    config.system = "gcl"
    config.product_weights = ConfigDict({"image": 0.9, "text": 0.1})  # of its picture and its title in its vector
    return config


def _sample(config: ConfigDict) -> None:
    """The sample catalog and its log, a few minutes on a CPU core."""
    config.batch_size, config.total_samples = 64, 64 * 300
    config.image.size, config.image.width, config.image.depth, config.image.heads = 32, 128, 2, 2
    config.image.pool = config.text.pool = "mean"
    config.temperature_init, config.logit_scale_max = 0.1, 20.0
    config.text.max_length, config.text.query_length, config.text.vocab_size = 20, 10, 2_000
    config.augment.crop_scale, config.augment.mirror = (0.5, 1.0), 0.5
    config.text.word_dropout = 0.2
    by_muon(config)
    config.optimizer.warmup_samples, config.checkpoint.every_steps = 2_000, 100


RECIPES = {"sample": _sample}


def get_config(size: str = "base") -> ConfigDict:
    return size_or_recipe(size, sizes=SIZES, sized=sized, recipes=RECIPES)
