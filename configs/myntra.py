"""Ten thousand fashion products with one picture each, from scratch on two CPU cores; times in docs/results.md.

    python -m ecommerce_vl.train --config=configs/myntra.py --workdir=RUN --config.data.path=DATA

A recipe for a catalog of this size: small batches, since updates are what is scarce; fixed gradients and colours of
cells under two convolutions and two transformer blocks; mirrored and cropped pictures. Chosen on the validation split.
"""

from ml_collections import ConfigDict

from configs import eclip


def get_config() -> ConfigDict:
    config = eclip.get_config("tiny")
    config.batch_size = 128
    config.total_samples = 16 * 7_445
    config.embed_dim = 256
    config.temperature_init, config.logit_scale_max = 0.1, 10.0  # a higher scale fills fewer dimensions of the space
    config.image.size, config.image.stem = 80, "gradient"
    config.image.width, config.image.depth, config.image.heads = 256, 2, 4
    config.image.pool = config.text.pool = "mean"
    config.image.drop_path = 0.1
    config.text.width, config.text.depth, config.text.heads = 128, 1, 2
    config.text.max_length, config.text.vocab_size = 32, 4_000
    config.text.word_dropout = 0.1
    config.augment.crop_scale, config.augment.crop_ratio = (0.5, 1.0), 1.2
    config.augment.mirror, config.augment.light = 0.5, 0.1
    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 4e-3
    config.optimizer.warmup_samples = 20_000
    config.data.num_workers = 0
    config.log_every = 25
    config.checkpoint.every_steps = 500
    return config
