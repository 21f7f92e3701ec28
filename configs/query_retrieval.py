"""Query -> product retrieval: towers, contrastive patches, cross-device and memory-bank negatives.

    python -m ecommerce_vl.train --config=configs/query_retrieval.py:base --workdir=RUN --config.data.path=DATA

The argument after the colon is the size: tiny, small, base (the default); or a recipe for a catalog: sample, myntra
(queries derived from its products), icecat (texts alone). DATA needs query pairs: prepare with --clicks, or name a file
of queries with --config.data.queries=FILE, or derive them from the products with --config.data.queries=derived.
"""

from ml_collections import ConfigDict

from configs.common import common, size_or_recipe

# size: image (size, patch, stem), blocks (width, depth, heads), embed_dim, batch_size, bank, remat
SIZES = {
    "tiny": ((64, 16, "conv"), (192, 3, 3), 128, 256, 8_192, "none"),
    "small": ((224, 32, "patch"), (384, 6, 6), 128, 1024, 65_536, "none"),
    "base": ((224, 32, "patch"), (768, 12, 12), 128, 2048, 65_536, "dots"),
}


def sized(size: str) -> ConfigDict:
    image, blocks, embed_dim, batch_size, bank, remat = SIZES[size]
    config = common(batch_size=batch_size, source="query_pairs")
    config.system, config.size = "query_retrieval", size
    config.image.size, config.image.patch_size, config.image.stem = image
    config.joint = ConfigDict()
    config.joint.width, config.joint.depth, config.joint.heads = blocks
    config.joint.mlp_ratio, config.joint.drop_path, config.joint.remat = 4.0, 0.0, remat
    config.joint.pool = "mean"  # over what is not padding; or "cls"
    config.embed_dim = embed_dim
    config.separate_query = False  # a text encoder of the query's own, which starts as a copy
    config.modal_adaptation = False  # learn what each product gives to its picture and to its text
    config.clean_pass = True  # vectors of unmasked products; False masks them as well, at two thirds of the cost

    config.temperature_init, config.tau_learned = 0.05, True  # within 0.01 and 1
    config.loss = ConfigDict()
    config.loss.objective = "am_softmax"  # or softmax, sigmoid
    config.loss.margin = 0.1  # of am_softmax, taken off the cosine of a pair
    config.loss.both = True  # products find their queries as well
    config.loss.span = 0  # rows of the batch that meet; 0: all, of every device; batch_size / devices is the baseline
    config.loss.stop_gradient = False  # none through products of other devices: cheaper, not exact
    config.loss.impl, config.loss.chunk_rows = "gather", 0  # see configs/eclip.py
    config.bank = ConfigDict()
    config.bank.size = bank  # products of earlier steps as negatives, a multiple of batch_size; 0 for none
    config.bank.start_step = 1000

    config.weights = ConfigDict({"mlm": 1.0, "mpm": 1.0, "qpc": 1.0, "qpm": 1.0, "qim": 1.0, "keyword": 0.0})
    config.mlm = ConfigDict({"ratio": 0.15})
    config.mpm = ConfigDict()
    config.mpm.form = "contrastive"  # or regression, kl of features, pixels (L1)
    config.mpm.ratio, config.mpm.temperature = 0.15, 0.07
    config.mpm.candidates = (
        4_096  # patches of the batch that a masked one is told from, beside those of its own picture
    )
    config.cross = ConfigDict()
    config.cross.width, config.cross.depth, config.cross.heads = min(blocks[0], 384), 4, min(blocks[2], 6)
    config.cross.mlp_ratio, config.cross.remat = 4.0, "full" if size == "base" else "none"
    config.keywords = ConfigDict({"overlap": 0.5})  # from which share of common words on two queries are alike

    config.optimizer.learning_rate, config.optimizer.weight_decay = 1e-4, 0.01
    return config


def _sample(config: ConfigDict) -> None:
    """The sample catalog and its log, a few minutes on a CPU core."""
    config.batch_size, config.total_samples = 64, 64 * 300
    config.bank.size, config.bank.start_step = 512, 50
    config.image.size = 32
    config.joint.width, config.joint.depth, config.joint.heads = 128, 2, 2
    config.cross.width, config.cross.depth, config.cross.heads = 64, 1, 1
    config.text.max_length, config.text.query_length, config.text.vocab_size = 20, 10, 2_000
    config.mpm.candidates = 256
    config.weights.mlm = config.weights.mpm = config.weights.qpm = config.weights.qim = 0.2
    config.augment.crop_scale, config.augment.mirror = (0.5, 1.0), 0.5
    config.text.word_dropout = 0.2
    by_muon(config)
    config.optimizer.warmup_samples, config.checkpoint.every_steps = 2_000, 100


def _myntra(config: ConfigDict) -> None:
    """Fashion products of one picture each, with queries that are made of their attributes."""
    _small_catalog(config)
    config.image.size = 64
    config.text.max_length, config.text.vocab_size = 24, 4_000
    config.mpm.candidates = 512
    config.augment.crop_scale, config.augment.mirror = (0.5, 1.0), 0.5


def _icecat(config: ConfigDict) -> None:
    """Electronics without pictures: texts alone, with queries that are made of their attributes."""
    _small_catalog(config)
    config.image.size, config.image.patch_size, config.image.stem = 16, 16, "patch"  # one patch, always absent
    config.text.max_length, config.text.vocab_size = 40, 8_000
    config.weights.mpm = config.weights.qim = 0.0


def _small_catalog(config: ConfigDict) -> None:
    config.batch_size, config.total_samples = 128, 128 * 1_000
    config.bank.size, config.bank.start_step = 2_048, 200
    config.joint.width, config.joint.depth, config.joint.heads = 192, 2, 3
    config.cross.width, config.cross.depth, config.cross.heads = 96, 2, 2
    config.text.query_length, config.text.word_dropout = 12, 0.1
    config.data.queries = "derived"
    by_muon(config)


def by_muon(config: ConfigDict) -> None:
    config.optimizer.name, config.optimizer.learning_rate = "muon", 4e-3
    config.optimizer.warmup_samples = 5_000
    config.data.num_workers = 0
    config.log_every, config.checkpoint.every_steps = 50, 300


RECIPES = {"sample": _sample, "myntra": _myntra, "icecat": _icecat}


def get_config(size: str = "base") -> ConfigDict:
    return size_or_recipe(size, sizes=SIZES, sized=sized, recipes=RECIPES)
