"""The tour: a tiny e-CLIP on the sample catalog, two to three minutes on two CPU cores.

python -m ecommerce_vl.train --config=configs/quickstart.py --workdir=RUN --config.data.path=DATA
"""

from ml_collections import ConfigDict

from configs import eclip


def get_config() -> ConfigDict:
    config = eclip.get_config("tiny")
    config.batch_size = 128
    config.total_samples = 20 * 1_500
    config.temperature_init, config.logit_scale_max = 0.1, 10.0  # as in configs/myntra.py
    config.image.stem = "gradient"
    config.image.depth = config.text.depth = 2
    config.image.pool = config.text.pool = "mean"
    config.text.max_length = 32
    config.text.vocab_size = 2_000
    config.augment.crop_scale, config.augment.mirror = (0.5, 1.0), 0.5
    config.text.word_dropout = 0.2
    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 4e-3
    config.optimizer.warmup_samples = 5_000
    config.data.num_workers = 0
    config.log_every = 20
    config.evaluate.every_steps = 50
    config.checkpoint.every_steps = 100
    return config
