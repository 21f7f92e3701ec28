"""e-CLIP: a dual encoder with catalog labels.

    python -m ecommerce_vl.train --config=configs/eclip.py:small --workdir=RUN --config.data.path=DATA

The argument after the colon is the size: tiny, small, base (the default) or large.
"""

from ml_collections import ConfigDict

from configs.common import check_argument, common

# size: image (size, patch, width, depth, heads, stem), text (width, depth, heads), embed_dim, batch_size, remat
SIZES = {
    "tiny": ((64, 16, 192, 3, 3, "conv"), (128, 2, 2), 128, 256, "none"),
    "small": ((224, 16, 384, 12, 6, "patch"), (384, 6, 6), 256, 1024, "none"),
    "base": ((224, 32, 768, 12, 12, "patch"), (768, 12, 12), 512, 4096, "dots"),
    "large": ((224, 14, 1024, 24, 16, "patch"), (768, 12, 12), 768, 8192, "full"),
}


def two_towers(size: str, *, source: str = "products") -> ConfigDict:
    """The towers and the contrastive loss of a size, for a system that is still to be named."""
    check_argument(size, SIZES)
    image, text, embed_dim, batch_size, remat = SIZES[size]
    config = common(batch_size=batch_size, source=source)
    config.size = size

    config.image.size, config.image.patch_size, config.image.stem = image[0], image[1], image[5]
    config.image.width, config.image.depth, config.image.heads = image[2], image[3], image[4]
    config.text.width, config.text.depth, config.text.heads = text
    for tower in (config.image, config.text):
        tower.mlp_ratio = 4.0
        tower.pool = "cls"  # or "mean" over patches or tokens
        tower.drop_path = 0.0  # probability that a row skips a branch of the last block; 0.1-0.2 against overfitting
        tower.remat = remat  # what the backward pass keeps: none (all), dots, full (least memory)

    config.embed_dim = embed_dim
    config.temperature_init = 0.07
    config.logit_scale_max = 100.0
    config.loss = ConfigDict()
    config.loss.impl = "gather"  # all candidates on every device; "ring" passes them round, in far less memory
    config.loss.chunk_rows = 0  # rows of similarities at a time, computed again backwards; 0 holds all
    config.loss.span = 0  # rows of the batch that meet; 0: all; batch_size / K is what K micro-batches would see
    return config


def get_config(size: str = "base") -> ConfigDict:
    config = two_towers(size)
    config.system = "eclip"
    config.label_mode = "catalog"  # one_hot (CLIP), catalog (listings of one product are positives), mask
    config.catalog_alpha = 1.0  # weight of another listing of the same product against the row's own
    config.loss.objective = "softmax"  # InfoNCE; or sigmoid (SigLIP), with a learned bias
    return config
