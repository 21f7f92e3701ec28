"""Published models by the `model_type` of their config.json."""

from ecommerce_vl.models.pretrained import bert, clip, siglip, vit

FAMILIES = {"bert": bert.read, "vit": vit.read, "clip": clip.read, "siglip": siglip.read, "siglip2": siglip.read}
