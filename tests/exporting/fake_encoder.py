"""An encoder whose vectors can be computed by hand, with the methods of `ecommerce_vl.encoder.Encoder`."""

import io

import numpy as np
from PIL import Image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
UNREADABLE = (70, 70)  # pixels of a picture that this encoder cannot read


class FakeEncoder:
    """Four dimensions: red, green, blue of the picture's centre or of the colour words, and one for all else."""

    batch_size, dim, step = 2, 4, 7
    name, digest, space_id = "fake/tiny", "d" * 64, "space-one"
    trained_on = None

    def __init__(self, *, space_id="space-one", fail_after=None, drop_rows=False):
        self.preprocess, self.fusion = {"size": 64}, {"kind": "norm(image + text)"}
        self.text = {"tokenizer_digest": "t" * 64, "max_length": 16, "template": "title"}
        self.space_id, self.calls_left, self.drop_rows = space_id, fail_after, drop_rows
        self.seen = []  # ids of the products that it embedded

    def embed_views(self, records):
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                raise KeyboardInterrupt
        self.seen += [record["id"] for record in records]
        image = np.stack([self._image(record["images"][0] if record["images"] else None) for record in records])
        text = np.stack([self._text(record["title"]) for record in records])
        both = np.nan_to_num(image) + np.nan_to_num(text)
        with np.errstate(invalid="ignore"):
            product = (both / np.linalg.norm(both, axis=1, keepdims=True)).astype(np.float32)
        views = {"image": image, "text": text, "product": product}
        return {view: rows[:-1] for view, rows in views.items()} if self.drop_rows else views

    def embed_images(self, images):
        return np.stack([self._image(data) for data in images])

    def embed_queries(self, texts):
        return np.stack([self._text(text) for text in texts])

    def embed_composed(self, images, texts, *, text_weight=None):
        both = self.embed_images(images) + (1.0 if text_weight is None else text_weight) * self.embed_queries(texts)
        return both / np.linalg.norm(both, axis=1, keepdims=True)

    def _image(self, data):
        if data is None or (picture := Image.open(io.BytesIO(data))).size == UNREADABLE:
            return np.full(4, np.nan, np.float32)
        red, green, blue = picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2))
        values = [round(red / 255), round(green / 255), round(blue / 255)]
        return self._unit([*values, 0.0 if any(values) else 1.0])

    def _text(self, text):
        colours = [np.array(COLOURS[word]) / 255 for word in text.lower().split() if word in COLOURS]
        if not text.strip():
            return np.full(4, np.nan, np.float32)
        return self._unit([*sum(colours), 0.0] if colours else [0.0, 0.0, 0.0, 1.0])

    def _unit(self, values):
        return (np.array(values) / np.linalg.norm(values)).astype(np.float32)
