"""e-CLIP: a dual encoder with catalog labels.

    python -m ecommerce_vl.train --config=configs/eclip.py:small --workdir=RUN --config.data.path=DATA

The argument after the colon is the size: tiny, small, base (the default) or large.
"""

from ml_collections import ConfigDict

# size: image (size, patch, width, depth, heads, stem), text (width, depth, heads), embed_dim, batch_size, remat
SIZES = {
    "tiny": ((64, 16, 192, 3, 3, "conv"), (128, 2, 2), 128, 256, "none"),
    "small": ((224, 16, 384, 12, 6, "patch"), (384, 6, 6), 256, 1024, "none"),
    "base": ((224, 32, 768, 12, 12, "patch"), (768, 12, 12), 512, 4096, "dots"),
    "large": ((224, 14, 1024, 24, 16, "patch"), (768, 12, 12), 768, 8192, "full"),
}


def get_config(size: str = "base") -> ConfigDict:
    if size not in SIZES:
        raise ValueError(f"size {size!r} in --config=configs/eclip.py:{size}; expected one of {', '.join(SIZES)}")
    image, text, embed_dim, batch_size, remat = SIZES[size]
    config = ConfigDict()
    config.system = "eclip"
    config.size = size
    config.seed = 0  # of initial weights, order of products and augmentation
    config.batch_size = batch_size  # products of the global batch; all others of it are negatives
    config.batch_schedule = ()  # of stages of equal samples, multiples of batch_size; () is batch_size throughout
    config.streams = 1  # parts in which batch_size is encoded, for memory; the loss is that of the whole batch
    config.total_samples = 50_000_000  # products seen in all, repeats included
    config.dtype = "auto"  # of computation: bfloat16 on accelerators, float32 on CPU; parameters are float32

    config.image = ConfigDict()
    config.image.size, config.image.patch_size = image[0], image[1]  # pixels
    config.image.width, config.image.depth, config.image.heads = image[2], image[3], image[4]
    config.image.stem = image[5]  # "patch", or "conv", which small data needs
    config.image.mlp_ratio = 4.0
    config.image.pool = "cls"  # or "mean" over patches
    config.image.drop_path = 0.0  # probability that a row skips a branch of the last block; 0.1-0.2 against overfitting
    config.image.remat = remat  # what the backward pass keeps: none (all), dots, full (least memory)
    config.image.mean = (0.5, 0.5, 0.5)  # of pixels in [0, 1]
    config.image.std = (0.25, 0.25, 0.25)

    config.text = ConfigDict()
    config.text.tokenizer = ""  # folder of a Hugging Face tokenizer; "" trains one on the catalog
    config.text.vocab_size = 32_000  # at most, when trained
    config.text.max_length = 64  # tokens
    config.text.width, config.text.depth, config.text.heads = text
    config.text.mlp_ratio = 4.0
    config.text.pool = "cls"
    config.text.drop_path = 0.0
    config.text.remat = remat
    config.text.fields = ("category", "brand", "color", "material", "pattern", "size", "gender")  # after the title
    config.text.field_dropout = 0.5  # in training; evaluation and search use the title alone
    config.text.word_dropout = 0.0  # of title words, in training

    config.embed_dim = embed_dim
    config.temperature_init = 0.07
    config.logit_scale_max = 100.0
    config.label_mode = "catalog"  # one_hot (CLIP), catalog (listings of one product are positives), mask
    config.catalog_alpha = 1.0  # weight of another listing of the same product against the row's own
    config.loss = ConfigDict()
    config.loss.impl = "gather"  # all texts on every device; "ring" passes them round, in far less memory
    config.loss.chunk_rows = 0  # rows of similarities at a time, computed again backwards; 0 holds all

    config.augment = ConfigDict()
    config.augment.crop_scale = (0.9, 1.0)  # share of the area
    config.augment.crop_ratio = 1.1  # widest aspect ratio of a crop
    config.augment.mirror = 0.0  # text and logos on packages do not survive a flip
    config.augment.light = 0.0  # brightness and contrast within 1 +- this

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # or "muon", which fills more dimensions where data is small
    config.optimizer.learning_rate = 5e-4  # peak, from scratch at batch 4096
    config.optimizer.warmup_samples = 2_000 * batch_size
    config.optimizer.lr_rule = "sqrt"  # how the rate follows batch_schedule from its first size: constant, sqrt, linear
    config.optimizer.rewarm_steps = 500  # of a new warm-up after the batch has changed, at most half a stage
    config.optimizer.weight_decay = 0.1
    config.optimizer.b1, config.optimizer.b2, config.optimizer.eps = 0.9, 0.98, 1e-6
    config.optimizer.grad_clip = 1.0  # global norm

    config.data = ConfigDict()
    config.data.path = ""  # what prepare wrote
    config.data.rows = "pairs"  # products with a picture and a title; "all" draws the others too, masked in the loss
    config.data.catalog_pairs = 0.0  # share of rows drawn as two listings of one catalog; 0.25 where there are catalogs
    config.data.category_power = 1.0  # a leaf category of n products is drawn by n^this; 0.7 lifts the rare ones
    config.data.image_dropout = 0.0  # probability that a product with a picture and a text loses its picture
    config.data.text_dropout = 0.0  # or its text, never both; for losses that can do with one
    config.data.num_workers = 4  # processes that decode on each host; 0 decodes in threads

    config.mesh = ConfigDict()
    config.mesh.data = -1  # devices along the data axis; -1 takes all that fsdp leaves
    config.mesh.fsdp = 1  # devices over which parameters and optimizer state are sharded

    config.log_every = 50  # steps
    config.evaluate = ConfigDict()  # a few numbers on a fixed sample of the validation split, while training
    config.evaluate.every_steps = 500  # and at step 0 and at the end; 0 never
    config.evaluate.products = 512  # of the sample, at most
    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1000
    config.checkpoint.keep = 2
    return config
