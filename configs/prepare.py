"""How a feed becomes shards.

python -m ecommerce_vl.prepare --feed=sample:2000 --out=DATA --config=configs/prepare.py
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.columns = ""  # own names first: "title=Product name,image_link=photo"; the usual aliases are known
    config.rows_per_shard = 4096  # products a shard; at 20 kB a picture about 80 MB

    config.images = ConfigDict()
    config.images.max_pixels = 89_000_000  # refuse larger pictures by their header, before decoding
    config.images.min_side = 64  # pixels of the shorter side; smaller pictures show no product
    config.images.max_side = 256  # pixels of the longer side as stored; larger pictures are resized once
    config.images.quality = 92  # JPEG quality of what is encoded again

    config.split = ConfigDict()
    config.split.fractions = (0.8, 0.1, 0.1)  # train, validation, test, where the feed has no split of its own
    config.split.seed = 0
    return config
