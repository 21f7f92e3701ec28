"""How a feed becomes shards.

python -m ecommerce_vl.prepare --feed=sample:2000 --out=DATA --config=configs/prepare.py

The argument "raw", as in --config=configs/prepare.py:raw, switches all cleaning off, for a comparison.
"""

import dataclasses

from ml_collections import ConfigDict

from configs.common import check_argument
from ecommerce_vl.data.logs.settings import Settings
from ecommerce_vl.data.seed_model.settings import Settings as SeedModel


def get_config(arm: str = "clean") -> ConfigDict:
    check_argument(arm, ("clean", "raw"))
    clean = arm == "clean"
    config = ConfigDict()
    config.columns = ""  # own names first: "title=Product name,image_link=photo"; the usual aliases are known
    config.rows_per_shard = 4096  # products a shard; at 20 kB a picture about 80 MB
    config.num_workers = 0  # processes; 0 takes one a core
    config.memory_limit = "2GB"  # of the SQL engine; beyond it spills to disk beside the data
    config.adult_sellers = ()  # seller_id of whole shops for adults: yes for what their rows do not say
    config.runner = "processes"  # that write the shards; or "beam"

    config.text = ConfigDict()  # rules for titles and descriptions; see data/cleaning.py
    config.text.html = clean  # markup and character references become the text they show
    config.text.nfkc = clean  # one Unicode form
    config.text.links = clean  # URLs, e-mail addresses and telephone numbers go
    config.text.promotions = clean  # "[FREE SHIPPING]" goes, "(Pack of 2)" stays
    config.text.emoji = clean
    config.text.punctuation = clean  # repeated marks are kept once
    config.text.spaces = clean
    config.text.min_words = 2 if clean else 0  # a title of fewer words is none

    config.images = ConfigDict()
    config.images.max_pixels = 89_000_000  # refuse larger pictures by their header, before decoding
    config.images.min_side = 64 if clean else 1  # pixels of the shorter side; smaller pictures show no product
    config.images.max_side = 256  # pixels of the longer side as stored; larger pictures are resized once
    config.images.quality = 92  # JPEG quality of what is encoded again
    config.images.max_aspect = 4.0 if clean else 0.0  # longer over shorter side; beyond it is a banner; 0 allows any
    config.images.min_luma_std = 0.02 if clean else 0.0  # of white; a picture below it is blank; 0 allows any
    config.images.placeholder_share = 1e-4 if clean else 0.0  # of all different pictures, the most frequent ones, ...
    config.images.placeholder_min_titles = 10  # ... under at least so many different titles: "no image", logos
    config.images.fetch = False  # whether http(s) links are fetched
    config.images.allowed_hosts = ()  # ... and from where: ("cdn.example.com", "*.example.org")
    config.images.max_bytes = 20_000_000  # of one encoded picture
    config.images.timeout_s = 10.0  # of one fetch in all
    config.images.max_redirects = 3

    config.identity = ConfigDict()  # what makes two listings one product; see data/identity.py
    config.identity.catalog_ids = True  # the feed's own
    config.identity.gtins = True  # with a valid check digit
    config.identity.gtin_agreement = True  # ... and brands or titles that agree
    config.identity.gtin_pack = True  # ... and equal pack sizes
    config.identity.brand_mpns = True
    config.identity.exact_duplicates = True  # equal picture and title
    config.identity.near_duplicates = True  # pictures and titles nearly equal
    config.identity.item_groups = True  # variants, never the same product
    config.identity.drop_copies = clean  # of copies within one seller, only the first is kept
    config.identity.max_key_rows = 200  # listings; a key on more of them is a shop's default, not an identity
    config.identity.max_bucket_rows = 200  # listings with one band of letters in their titles; more are not compared
    config.identity.min_gtin_jaccard = 0.3  # of words, where brands do not agree beside a gtin
    config.identity.min_mpn_length = 3
    config.identity.max_hash_distance = 16  # of 255 bits; at 32 half of what Myntra gives are no copies
    config.identity.min_title_jaccard = 0.9  # of three-letter shingles

    config.split = ConfigDict()
    config.split.fractions = (0.8, 0.1, 0.1)  # train, validation, test, where the feed has no split of its own
    config.split.seed = 0
    config.split.by = "hash"  # or "time": what appeared last is test; needs a timestamp column
    config.split.keep_given = True  # honour the feed's own split
    config.split.max_component = 0.01  # share of the catalog; larger groups are cut at their weakest relations

    config.seed_model = ConfigDict(dataclasses.asdict(SeedModel()))  # what is looked for in --vectors
    config.logs = ConfigDict(dataclasses.asdict(Settings()))  # how --clicks and --queries are read and mined
    return config
