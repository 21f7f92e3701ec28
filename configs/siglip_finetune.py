"""e-CLIP's loss on a published dual encoder, SigLIP, SigLIP 2 or CLIP, trained on from where it stands.

    python -m ecommerce_vl.train --config=configs/siglip_finetune.py:all --workdir=RUN --config.data.path=DATA \
        --config.init.dual=FOLDER

The argument after the colon is the recipe: all (the default; lower layers move less) or lit (the image tower stays as
it is, and has no optimizer state). Widths, depths and how pictures are read come with the folder.
"""

from ml_collections import ConfigDict

from configs import eclip
from configs.common import check_argument

RECIPES = ("all", "lit")


def get_config(recipe: str = "all") -> ConfigDict:
    check_argument(recipe, RECIPES)
    config = eclip.get_config("base")
    config.size = f"finetune-{recipe}"
    config.init.dual = "google/siglip2-base-patch16-224"
    config.batch_size = 1024
    config.total_samples = 20_000_000
    config.optimizer.learning_rate = 2e-5
    config.optimizer.warmup_samples = 200_000
    config.optimizer.weight_decay = 0.01
    if recipe == "lit":
        config.optimizer.locked = ("image/",)
        config.optimizer.learning_rate = 1e-4
    else:
        config.optimizer.layer_decay = 0.8
    return config
