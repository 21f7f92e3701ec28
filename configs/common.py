"""configs/common.py: the fields that every system's config has; a file beside it adds its encoders and its losses."""

from collections.abc import Callable, Collection, Iterable, Mapping

from ml_collections import ConfigDict


def check_argument(argument: str, choices: Iterable[str]) -> None:
    """Refuses what stands after the colon of --config=FILE:ARGUMENT if it is not one of `choices`.

    Errors: ValueError that names it and the choices.
    """
    if argument not in (choices := tuple(choices)):
        raise ValueError(f"there is no {argument!r}; expected one of {', '.join(choices)}")


def size_or_recipe(
    argument: str,
    *,
    sizes: Collection[str],
    sized: Callable[[str], ConfigDict],
    recipes: Mapping[str, Callable[[ConfigDict], None]],
) -> ConfigDict:
    """The config of a size, or that of a recipe, which changes the size tiny for a small catalog."""
    check_argument(argument, (*sizes, *recipes))
    if argument in sizes:
        return sized(argument)
    config = sized("tiny")
    config.size = argument
    recipes[argument](config)
    return config


def common(*, batch_size: int, source: str = "products") -> ConfigDict:
    config = ConfigDict()
    config.system = ""  # a key of SYSTEMS
    config.size = ""
    config.seed = 0  # of initial weights, order of products and augmentation
    config.batch_size = batch_size  # samples of the global batch: products or pairs
    config.batch_schedule = ()  # of stages of equal samples, multiples of batch_size; () is batch_size throughout
    config.streams = 1  # parts in which batch_size is encoded, for memory; the loss is that of the whole batch
    config.total_samples = 50_000_000  # seen in all, repeats included
    config.init = ConfigDict()  # folders of Hugging Face, or ids of the hub, that a run begins from; docs/weights.md
    config.init.text = config.init.image = ""  # a tower each: BERT, CLIP, SigLIP; ViT, CLIP, SigLIP
    config.init.dual = ""  # both towers and their projections: CLIP, SigLIP
    config.init.joint = ""  # blocks and words of the joint encoder: BERT
    config.dtype = "auto"  # of computation: bfloat16 on accelerators, float32 on CPU; parameters are float32

    config.image = ConfigDict()
    config.image.size, config.image.patch_size = 224, 16  # pixels
    config.image.stem = "patch"  # or for small data "conv", or "gradient", whose first layer is given
    config.image.mean = (0.5, 0.5, 0.5)  # of pixels in [0, 1]
    config.image.std = (0.25, 0.25, 0.25)

    config.text = ConfigDict()
    config.text.tokenizer = ""  # folder of a Hugging Face tokenizer; "" trains one on the catalog
    config.text.vocab_size = 32_000  # at most, when trained
    config.text.max_length = 64  # tokens
    config.text.fields = ("category", "brand", "color", "material", "pattern", "size", "gender")  # after the title
    config.text.field_dropout = 0.5  # in training; evaluation and search use the title alone
    config.text.word_dropout = 0.0  # of title words, in training

    config.augment = ConfigDict()
    config.augment.crop_scale = (0.9, 1.0)  # share of the area
    config.augment.crop_ratio = 1.1  # widest aspect ratio of a crop
    config.augment.mirror = 0.0  # text and logos on packages do not survive a flip
    config.augment.light = 0.0  # brightness and contrast within 1 +- this

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # or "lamb", for 16 k and more; "muon", which fills more dimensions of small data
    config.optimizer.learning_rate = 5e-4 * (batch_size / 4096) ** 0.5  # peak, from scratch
    config.optimizer.warmup_samples = 2_000 * batch_size
    config.optimizer.lr_rule = "sqrt"  # how the rate follows batch_schedule from its first size: constant, sqrt, linear
    config.optimizer.lr_decay = "cosine"  # to zero at the end, over samples; or "linear"
    config.optimizer.rewarm_steps = 500  # of a new warm-up after the batch has changed, at most half a stage
    config.optimizer.weight_decay = 0.1
    config.optimizer.b1, config.optimizer.b2, config.optimizer.eps = 0.9, 0.98, 1e-6
    config.optimizer.locked = ()  # regular expressions of paths that stay as they are, such as "image/" (LiT)
    config.optimizer.locked_fraction = 1.0  # of the samples, for which they stay; 0.1 is the first tenth
    config.optimizer.layer_decay = 1.0  # of the rate, from each block to the one below; 0.6-0.9 in fine-tuning
    config.optimizer.grad_clip = 1.0  # global norm

    config.data = ConfigDict()
    config.data.path = ""  # what prepare wrote
    config.data.source = source  # what a position of the stream draws: products, item_pairs, query_pairs
    config.data.image_dropout = 0.0  # probability that a product with a picture and a text loses its picture
    config.data.text_dropout = 0.0  # or its text, never both; for losses that can do with one
    config.data.any_image = False  # training draws one of a product's pictures; evaluation and search read the first
    config.data.drop_lowest = 0.0  # share of a category that is left out: picture and title agree least (--vectors)
    config.data.min_agreement = -1.0  # cosine of picture and title, below which a product is left out (--vectors)
    config.data.num_workers = 4  # processes that decode on each host; 0 decodes in threads
    if source == "products":
        config.data.rows = (
            "pairs"  # products with a picture and a title; or "all", of which contrastive losses skip the others
        )
        config.data.fraction = 1.0  # of the train split; 0.1 trains the seed model that `prepare --vectors` asks for
        config.data.catalog_pairs = 0.0  # share of rows drawn as two listings of one catalog; 0.25 where there are some
        config.data.category_power = 1.0  # a leaf category of n products is drawn by n^this; 0.7 lifts the rare ones
        config.data.same_category_fraction = 0.0  # share of rows drawn as neighbours of one leaf, hard negatives
        config.data.mismatch = 0.0  # share of rows whose picture or text is that of another product of the batch
        config.data.mismatch_same_category = 0.5  # of these, the share whose partner is of the same leaf category

    if source == "query_pairs":
        config.text.query_length = 20  # tokens
        config.text.fields, config.text.field_dropout = (), 0.0  # the title is what is indexed
        config.data.rows = "all"  # products that queries lead to; or "pairs", those with a picture and a title
        config.data.queries = ""  # "": mined from the click log; "derived"; or a file of JSON lines
        config.data.query_power = 0.5  # a query of n clicks is drawn by n^this
        config.data.known = 64  # clicked products of a query that are not its negatives
        config.data.keywords = 0  # words of a query that similar queries are told by

    config.mesh = ConfigDict()
    config.mesh.data = -1  # devices along the data axis; -1 takes all that fsdp leaves
    config.mesh.fsdp = 1  # devices over which parameters and optimizer state are sharded

    config.log_every = 50  # steps
    config.profile = ()  # first and last step to trace into RUN/profile, such as (100, 104); () none
    config.evaluate = ConfigDict()  # a few numbers on a fixed sample of the validation split, while training
    config.evaluate.every_steps = 500  # and at step 0 and at the end; 0 never
    config.evaluate.products = 512  # of the sample, at most
    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1000
    config.checkpoint.keep = 2
    return config
