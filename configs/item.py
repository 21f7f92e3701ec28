"""ITEm: one encoder of picture and title, trained by matching and by masked words and patches, without labels.

    python -m ecommerce_vl.train --config=configs/item.py:base --workdir=RUN --config.data.path=DATA

The argument after the colon is the size: tiny, small, base (the default), large; or a recipe for a small catalog on two
CPU cores: sample (of `prepare --feed=sample:2000`), myntra.
"""

from ml_collections import ConfigDict

from configs.common import common, size_or_recipe

# size: image (size, patch), joint (width, depth, heads), words of a title, batch_size, remat
SIZES = {
    "tiny": ((64, 16), (192, 3, 3), 32, 256, "none"),
    "small": ((224, 32), (384, 6, 6), 64, 1024, "dots"),
    "base": ((224, 16), (768, 12, 12), 64, 1024, "dots"),
    "large": ((224, 16), (1024, 24, 16), 64, 4096, "full"),
}


def _sized(size: str) -> ConfigDict:
    image, joint, length, batch_size, remat = SIZES[size]
    config = common(batch_size=batch_size)
    config.system, config.size = "item", size

    config.image.size, config.image.patch_size = image
    config.text.max_length = length
    config.text.fields = ()  # the title alone: with its category, matching a picture of another is no task
    config.joint = ConfigDict()
    config.joint.width, config.joint.depth, config.joint.heads = joint
    config.joint.mlp_ratio = 4.0
    config.joint.drop_path = 0.0  # probability that a row skips a branch of the last block; 0.1-0.2 against overfitting
    config.joint.remat = remat  # what the backward pass keeps: none (all), dots, full (least memory)
    config.embed_dim = config.joint.get_ref("width")

    config.mask_mode = "joint"  # words and patches in one pass; or "conditional", those of one modality a row
    config.text_mask_ratio = config.image_mask_ratio = 0.15
    config.mim_loss = "l1"  # or "l2"
    config.mim_norm_target = True  # patches are predicted by their own mean and deviation
    config.global_pos_embed = "shared"  # positions of the global heads: the encoder's, or "separate" ones, or "none"
    config.weights = ConfigDict({name: 1.0 for name in ("itm", "mlm", "mim", "gmlm", "gmim")})  # 0 leaves one out
    config.adaptive_weights = False  # weights that follow the losses instead, times the above

    config.data.mismatch = 0.5  # of the matching objective
    config.optimizer.learning_rate, config.optimizer.lr_decay = 1e-4, "linear"
    config.optimizer.warmup_samples = 10_000 * batch_size
    config.optimizer.weight_decay = 0.01
    config.total_samples = 200_000 * batch_size
    return config


def _small_catalog(config: ConfigDict) -> None:
    """Updates are what is scarce: small batches, a convolutional stem, Muon; chosen on the validation split."""
    config.batch_size = 128
    config.image.stem = "conv"
    config.joint.width, config.joint.depth, config.joint.heads = 128, 2, 4
    config.text.max_length = 24
    config.augment.crop_scale, config.augment.mirror = (0.5, 1.0), 0.5
    config.optimizer.name, config.optimizer.learning_rate = "muon", 4e-3
    config.optimizer.lr_decay = "cosine"
    config.optimizer.warmup_samples = 5_000
    config.data.num_workers = 0
    config.log_every = 20
    config.checkpoint.every_steps = 100


def _sample(config: ConfigDict) -> None:
    _small_catalog(config)
    config.text.vocab_size, config.total_samples = 2_000, 26 * 1_500


def _myntra(config: ConfigDict) -> None:
    _small_catalog(config)
    config.text.vocab_size, config.total_samples = 4_000, 20 * 7_445


RECIPES = {"sample": _sample, "myntra": _myntra}


def get_config(size: str = "base") -> ConfigDict:
    return size_or_recipe(size, sizes=SIZES, sized=_sized, recipes=RECIPES)
