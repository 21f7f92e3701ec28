"""eSSPR: a joint encoder trained on pairs of same-style products.

    python -m ecommerce_vl.train --config=configs/same_style.py:small --workdir=RUN --config.data.path=DATA

The argument after the colon is a size: tiny, small or base (the default), or a recipe for small data: sample (the drawn
catalog and its click log), myntra (a log of `benchmarks/click_model.py`) or magento (colours of one product, no log).
"""

from ml_collections import ConfigDict

from configs.common import common, size_or_recipe

# size: image (size, patch, stem), joint (width, depth, heads), text length, embed_dim, batch_size, remat
SIZES = {
    "tiny": ((64, 8, "conv"), (192, 3, 3), 32, 128, 256, "none"),
    "small": ((224, 32, "patch"), (384, 6, 6), 64, 128, 512, "none"),
    "base": ((224, 16, "patch"), (768, 6, 12), 64, 128, 512, "dots"),
}


def _sized(size: str) -> ConfigDict:
    image, joint, length, embed_dim, batch_size, remat = SIZES[size]
    config = common(batch_size=batch_size, source="item_pairs")
    config.system, config.size = "same_style", size
    config.total_samples = 31_000_000  # pairs; one pass over those of the paper

    config.image.size, config.image.patch_size, config.image.stem = image
    config.text.max_length = length
    config.joint = ConfigDict()
    config.joint.width, config.joint.depth, config.joint.heads = joint
    config.joint.mlp_ratio = 4.0
    # Over the patches and tokens that are there; or "cls", whose vectors are all equal before the first update, where
    # a hinge has no gradient but rounding.
    config.joint.pool = "mean"
    config.joint.drop_path = 0.0
    config.joint.remat = remat
    config.embed_dim = embed_dim

    config.weights = ConfigDict({"pdc": 1.0, "locality": 1.0})  # of the losses beside PPM; 0 leaves one out
    config.loss = ConfigDict()
    config.loss.margin_ppm, config.loss.margin_pdc = 0.2, 0.2  # on cosines
    config.loss.margin_locality = 0.01  # on squared differences of cosines: a cosine may move by 0.1
    config.loss.locality_k = 10  # the paper's
    config.loss.matched_views = ("both", "text_only", "image_only")  # of the left product, against the right one (PPM)
    config.loss.trans_views = ("text_only", "image_only")  # z of PDC and locality; "aug_view" adds a cropped one
    config.loss.symmetric = False  # right -> left as well, half each
    config.loss.omni_pairs = False  # all nine pairs of views, a third each
    config.loss.infonce = False  # in place of the hinge of PPM: a control, not the paper
    config.loss.temperature = 0.05  # of that control

    config.optimizer.learning_rate = 1e-4
    config.optimizer.warmup_samples = config.total_samples // 10
    config.optimizer.weight_decay = 0.0

    config.data.pairs = "clicks"  # mined by prepare --clicks; or "catalog", "group": listings that share that id
    config.data.relations = ("same_style", "same_product")  # of mined pairs, those to learn from; or "variant"
    config.data.max_partners = 10  # listings that one is paired with, where pairs come of ids
    config.data.pair_weight = "loss"  # a mined pair's weight scales its loss; "order": how often it is drawn
    config.data.same_category_fraction = 0.25  # of a batch, from one leaf category: harder negatives
    return config


def _small_data(config: ConfigDict) -> None:
    """What a few thousand products ask for: many updates, strong augmentation, Muon."""
    config.batch_size = 64
    config.image.patch_size, config.text.max_length = 16, 24
    config.joint.depth = 2
    config.text.vocab_size = 2_000
    config.text.word_dropout = 0.2
    config.augment.crop_scale, config.augment.mirror, config.augment.light = (0.5, 1.0), 0.5, 0.1
    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 4e-3
    config.data.num_workers = 0
    config.log_every = 20
    config.checkpoint.every_steps = 200


def _sample(config: ConfigDict) -> None:
    _small_data(config)
    config.data.relations = (*config.data.relations, "variant")  # a style is an item group here
    config.total_samples = 9_600
    config.optimizer.warmup_samples = 1_200
    config.image.size = 48
    config.joint.width, config.joint.heads = 128, 2


def _myntra(config: ConfigDict) -> None:
    _small_data(config)
    config.data.relations = (*config.data.relations, "variant")  # a style is an item group here
    config.total_samples = 60_000
    config.optimizer.warmup_samples = 6_000
    config.text.vocab_size = 4_000


def _magento(config: ConfigDict) -> None:
    _small_data(config)
    config.total_samples = 8_000
    config.optimizer.warmup_samples = 1_000
    config.data.pairs = "group"  # colours of one product
    config.data.any_image = True


RECIPES = {"sample": _sample, "myntra": _myntra, "magento": _magento}


def get_config(size: str = "base") -> ConfigDict:
    return size_or_recipe(size, sizes=SIZES, sized=_sized, recipes=RECIPES)
