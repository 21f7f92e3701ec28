"""Query -> product retrieval (Taobao, 2304.04377), and MAKE (2301.12646) as a variant: two towers, very many negatives.

    L = w_mlm L_MLM + w_mpm L_MPM + w_qpc L_QPC + w_qpm L_QPM + w_qim L_QIM (+ w_keyword L_KE)

    MLM, MPM   masked words of query and title, masked patches: in the towers, on a masked pass of their own
    QPC        AM-softmax of queries against the products of all devices and of a bank of earlier steps
    QPM, QIM   a cross encoder tells the clicked product from one that is hard for the towers, whole and by its picture
    KE         pairs of similar queries are positives of each other (MAKE)

Fine-tuning (`data.id_rows`, `loss.hard`; configs/query_finetune.py) is QPC alone, with embeddings of product ids and
hard products beside the random ones.

The losses are the papers'; their weights, sizes, margin, temperature, bank and sampling are not public, and ours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.errors import none_below_zero, one_of
from ecommerce_vl.losses import patches
from ecommerce_vl.losses.bank import as_candidates, drift, filled, make_bank, push
from ecommerce_vl.losses.candidates import Candidates, Rule
from ecommerce_vl.losses.contrastive import candidate_loss, check_sweep
from ecommerce_vl.losses.partners import draw_partners, fetch_rows
from ecommerce_vl.losses.tokens import RowSum, cross_entropy, global_mean, patch_distance, patch_targets, row_sum
from ecommerce_vl.models.cross import CrossEncoder
from ecommerce_vl.models.heads import PatchHead, WordHead
from ecommerce_vl.models.joint import IMAGE, States
from ecommerce_vl.models.recall import RecallHead
from ecommerce_vl.models.towers import QueryProductTowers
from ecommerce_vl.models.transformer import linear
from ecommerce_vl.systems import encoders
from ecommerce_vl.systems.clicks import NAMES, VIEWS, check_query_length, clicked_products
from ecommerce_vl.systems.encoders import (
    apart,
    compute_dtype,
    joint_encoder,
    read,
    row_keys,
    text_encoder,
    together,
)
from ecommerce_vl.systems.masking import Chosen, Vocabulary, choose, replace_words, split_keys
from ecommerce_vl.systems.matching import match_loss

OBJECTIVES = ("am_softmax", "softmax", "sigmoid")
TEMPERATURES = (0.01, 1.0)  # between which the learned one stays
NEAR = 0.95  # cosine of two patches that count as one
# What a row draws a key for: dropped paths, words and what they become, patches, and hard negatives.
USES = (
    "query_path",
    "product_path",
    "query_words",
    "query_kinds",
    "title_words",
    "title_kinds",
    "patches",
    "candidates",
    "draw",
    "ids",
)


class QueryRetrieval:
    """The system protocol of `ecommerce_vl/systems/__init__.py`.

    Errors: ValueError that begins with the key of the config.
    """

    views = VIEWS
    fusion = "joint encoder"  # picture and words are read in one pass

    def __init__(self, config, *, vocab_size: int, special_ids: Mapping[str, int]):
        image, mpm, loss = config["image"], config["mpm"], config["loss"]
        one_of("loss.objective", loss["objective"], OBJECTIVES)
        one_of("mpm.form", mpm["form"], patches.FORMS)
        check_sweep(loss["impl"], loss["chunk_rows"])
        self.rule = Rule(
            kind="sigmoid" if loss["objective"] == "sigmoid" else "softmax",
            label_mode="mask",
            margin=loss["margin"] if loss["objective"] == "am_softmax" else 0.0,
            both=loss["both"],
            span=loss["span"],
            stop_gradient=loss["stop_gradient"],
        )
        # Hard products are no listings of the own one; with keywords, none of a similar query's pair either.
        self.alike_rule = Rule(label_mode="mask")
        self.config, self.vocab_size = config, vocab_size
        none_below_zero("weights", config["weights"])
        check_query_length(config["text"])
        self.weights = {name: weight for name, weight in config["weights"].items() if weight}
        for name in {"mlm", "mpm"} & set(self.weights):
            if not 0 < config[name]["ratio"] < 1:
                raise ValueError(f"{name}.ratio is {config[name]['ratio']}; expected a share between 0 and 1")
        self.vocabulary = Vocabulary(vocab_size, special_ids) if "mlm" in self.weights else None
        self.num_patches = (image["size"] // image["patch_size"]) ** 2
        self.candidates_per_picture = min(mpm["candidates"] // config["batch_size"], self.num_patches)
        if "mpm" in self.weights and self.candidates_per_picture < 1:
            raise ValueError(
                f"mpm.candidates is {mpm['candidates']}; expected at least batch_size, {config['batch_size']}: one of "
                "each picture"
            )
        self.id_rows, self.hard = config["data"].get("id_rows", 0), loss.get("hard", False)
        if self.id_rows and not 0 <= config["ids"]["dropout"] < 1:
            raise ValueError(f"ids.dropout is {config['ids']['dropout']}; expected 0 to less than 1")
        if "keyword" in self.weights and not config["data"]["keywords"]:
            raise ValueError("data.keywords is 0, but weights.keyword is not; expected a number of words, such as 8")
        if "keyword" in self.weights:
            self.alike_rule = Rule(label_mode="keywords", overlap=config["keywords"]["overlap"], both=False)
            among = {"span": loss["span"], "stop_gradient": loss["stop_gradient"]}  # the negatives of QPC
            self.keyword_rule = dataclasses.replace(self.alike_rule, **among)
        self.shown = (
            ("q→p", "q2p_top1", "6.1%"),
            ("p→q", "p2q_top1", "6.1%") if loss["both"] else ("cosine", "pair_cosine", "5.2f"),
            ("eff. neg", "effective_negatives", ".0f"),
            ("tau", "temperature", ".3f"),
            *((("match", "qpm_accuracy", "6.1%"),) if "qpm" in self.weights else ()),
            ("rank", "product_rank", ".0f"),
        )

    def build(self, rngs: nnx.Rngs) -> QueryProductTowers:
        """The towers, and the heads of the losses whose weight is not 0."""
        config, width, dtype = self.config, self.config["joint"]["width"], compute_dtype(self.config["dtype"])
        heads = {}
        if "mlm" in self.weights:
            heads["words"] = WordHead(width, width=width, vocab_size=self.vocab_size, dtype=dtype, rngs=rngs)
        if "mpm" in self.weights:
            if config["mpm"]["form"] == "pixels":
                num_pixels = 3 * config["image"]["patch_size"] ** 2
                heads["patches"] = PatchHead(width, width=width, num_out=num_pixels, dtype=dtype, rngs=rngs)
            else:
                heads["patches"] = linear(width, width, dtype=dtype, rngs=rngs)
        matched = "qpm" in self.weights or "qim" in self.weights
        names = ("width", "depth", "heads", "mlp_ratio", "remat")
        cross = {name: config["cross"][name] for name in names}
        return QueryProductTowers(
            joint=joint_encoder(config, vocab_size=self.vocab_size, rngs=rngs, adapt=config["modal_adaptation"]),
            query=text_encoder(config, vocab_size=self.vocab_size, rngs=rngs) if config["separate_query"] else None,
            width=width,
            embed_dim=config["embed_dim"],
            pool=config["joint"]["pool"],
            cross=CrossEncoder(width, **cross, dtype=dtype, rngs=rngs) if matched else None,
            heads=heads,
            logit_scale=-math.log(config["temperature_init"]),
            logit_bias=encoders.logit_bias(config),
            dtype=dtype,
            rngs=rngs,
            recall=RecallHead(config["embed_dim"], id_rows=self.id_rows, rngs=rngs) if self.id_rows else None,
        )

    def make_extra(self) -> dict:
        """The bank of product vectors, and the step that it waits for; {} without a bank.

        Errors: ValueError for a size that is no multiple of the batch.
        """
        size = self.config["bank"]["size"]
        if not size:
            return {}
        bank = make_bank(size=size, lanes=self.config["batch_size"], dim=self.config["embed_dim"], num_groups=2)
        return {"bank": bank, "step": jnp.zeros((), jnp.int32)}

    def encode(self, model: QueryProductTowers, batch, rng: jax.Array) -> dict[str, Any]:
        """Vectors (B,D), sums of token losses, and the states that matching reads; each of its own row alone."""
        keys_B = row_keys(rng, batch["product"]["product_key"])
        keys_B = jax.vmap(jax.random.fold_in)(keys_B, batch["query"]["query_key"])
        keys = split_keys(keys_B, USES)
        out = self._read_queries(model, batch, keys) | self._read_products(model, batch, keys)
        if model.cross is not None or self.hard:  # hard negatives are drawn from the whole batch, so later
            out["draw"] = jax.random.key_data(keys["draw"])
        return out

    def _read_queries(self, model, batch, keys) -> dict[str, Any]:
        """A clean pass, and one with masked words."""
        query, out = batch["query"], {}
        ids, mask, path = query["text_ids"], query["text_mask"], keys["query_path"]
        passes = [(ids, mask, path)]
        if "mlm" in self.weights:
            masked_ids, chosen, target = self._mask_words(ids, mask & batch["valid"][:, None], keys, of="query")
            passes.append((masked_ids, mask, path))
        states = apart(model.read_queries(*together(passes)), len(passes))
        out["query"] = model.query_vector(states[0])
        if "mlm" in self.weights:
            token = (model.joint if model.query is None else model.query).token[...]
            out["query_words"] = _word_loss(model, states[1].states_BxLxW, chosen, target, token)
        if model.cross is not None:
            out["query_states"] = model.cross.narrow_query(states[0].states_BxLxW)
        return out

    def _read_products(self, model, batch, keys) -> dict[str, Any]:
        """A clean pass, a masked one, and one that sees the picture alone."""
        product, out = batch["product"], {}
        image, ids, mask = product["image"], product["text_ids"], product["text_mask"]
        has_image, has_text = product["has_image"], product["has_text"]
        shown_B = has_image & batch["valid"]
        nothing_BxN = jnp.zeros((len(image), self.num_patches), bool)
        passes = {"clean": (image, ids, mask, has_image, has_text, nothing_BxN)}
        masked_ids, hidden_BxN, words, hidden = ids, nothing_BxN, None, None
        if "mlm" in self.weights:
            masked_ids, *words = self._mask_words(ids, mask & (has_text & batch["valid"])[:, None], keys, of="title")
        if "mpm" in self.weights:
            eligible_BxN = jnp.broadcast_to(shown_B[:, None], nothing_BxN.shape)
            hidden = choose(keys["patches"], eligible_BxN, ratio=self.config["mpm"]["ratio"])
            hidden_BxN = hidden.marks(self.num_patches)
        if words or hidden:
            name = "masked" if self.config["clean_pass"] else "clean"
            passes[name] = (image, masked_ids, mask, has_image, has_text, hidden_BxN)
        if "qim" in self.weights:
            passes["picture"] = (image, ids, mask, has_image, jnp.zeros_like(has_text), nothing_BxN)
        states = dict(zip(passes, self._read(model, list(passes.values()), keys["product_path"]), strict=True))
        clean, masked = states["clean"], states.get("masked", states["clean"])
        out["product"] = model.product_vector(clean, self._kept_ids(product, keys["ids"]))
        if clean.share_Bx2 is not None:
            out["image_share"] = clean.share_Bx2[:, IMAGE]
        if words:
            out["title_words"] = _word_loss(model, masked.text_BxLxW, *words, model.joint.token[...])
        if hidden:
            out["patches"] = self._patch_loss(model, masked, hidden, image, shown_B, keys["candidates"])
        if "qpm" in self.weights:
            both = jnp.concatenate([clean.image_BxNxW, clean.text_BxLxW], axis=1)
            out["product_states"] = model.cross.narrow_product(both)
        if "qim" in self.weights:
            out["picture_states"] = model.cross.narrow_product(states["picture"].image_BxNxW)
        return out

    def _kept_ids(self, product, key_B) -> jax.Array | None:
        """The rows (B,) of ids, some of them lost, so that content alone must do as well."""
        if not self.id_rows:
            return None
        lost_B = jax.vmap(jax.random.uniform)(key_B) < self.config["ids"]["dropout"]
        return jnp.where(lost_B, -1, product["id_row"])  # negative: none

    def _read(self, model, passes: list[tuple], path_B) -> list[States]:
        """The joint states of each pass, all in one call."""
        image, ids, mask, has_image, has_text, hidden, path = together([(*one, path_B) for one in passes])
        states = model.joint(
            image, ids, mask, has_image_B=has_image, has_text_B=has_text, masked_BxN=hidden, keys_B=path
        )
        return apart(states, len(passes))

    def _mask_words(self, ids_BxL, eligible_BxL, keys, *, of: str):
        """(ids with words replaced, which, what stood there)."""
        words_BxL = self.vocabulary.words(ids_BxL, eligible_BxL)
        chosen = choose(keys[f"{of}_words"], words_BxL, ratio=self.config["mlm"]["ratio"])
        masked_ids, target = replace_words(keys[f"{of}_kinds"], ids_BxL, chosen, self.vocabulary)
        return masked_ids, chosen, target

    def _patch_loss(self, model, states: States, hidden: Chosen, image, shown_B, candidates_key_B):
        prediction_BxMxW = model.heads["patches"](hidden.take(states.image_BxNxW))
        if self.config["mpm"]["form"] == "pixels":  # as ITEm's masked patches
            pixels_BxMxC = hidden.take(model.joint.raw_patches(image))
            target_BxMxC, shows_BxM = patch_targets(pixels_BxMxC, normalise=True)
            distance_BxM = patch_distance(prediction_BxMxW, target_BxMxC, kind="l1")
            return row_sum(distance_BxM, hidden.used_BxM & shows_BxM)
        target_BxNxW = jax.lax.stop_gradient(model.joint.embed_patches(image))
        mpm = self.config["mpm"]
        if mpm["form"] != "contrastive":
            distance = {"regression": patches.regression, "kl": patches.divergence}[mpm["form"]]
            return row_sum(distance(prediction_BxMxW, hidden.take(target_BxNxW)), hidden.used_BxM)
        draw = lambda key: jax.random.permutation(key, self.num_patches)[: self.candidates_per_picture]
        return patches.own_image(
            prediction_BxMxW,
            target_BxNxW,
            hidden.index_BxM,
            jax.vmap(draw)(candidates_key_B),
            used_BxM=hidden.used_BxM,
            shown_B=shown_B,
            tau=mpm["temperature"],
            near=NEAR,
        )

    def contrast(self, model: QueryProductTowers, encoded, batch, extra, mesh):
        """The losses over the global batch, and the bank with its products."""
        config, product = self.config, batch["product"]
        scale = model.logit_scale[...]
        scale = scale if config["tau_learned"] else jax.lax.stop_gradient(scale)
        products = clicked_products(encoded["product"], batch)
        loss = config["loss"]
        how = {"impl": loss["impl"], "chunk_rows": loss["chunk_rows"], "known_BxK": batch["known"], "mesh": mesh}
        more, new_extra, losses, metrics = (), extra, {}, {"temperature": jnp.exp(-scale)}
        if extra:
            more = (as_candidates(extra["bank"], ready=extra["step"] >= config["bank"]["start_step"]),)
            metrics |= {"bank_filled": filled(extra["bank"]), **drift(extra["bank"], products, mesh=mesh)}
            new_extra = {"bank": push(extra["bank"], products), "step": extra["step"] + 1}
        bias = None if model.logit_bias is None else model.logit_bias[...]
        if self.hard:
            key_B, own = jax.random.wrap_key_data(encoded["draw"]), Rule(label_mode="mask")
            drawn, _ = draw_partners(
                key_B, encoded["query"], products, scale, mesh=mesh, rule=own, known_BxK=batch["known"]
            )
            more += (_at(products, drawn, mesh),)
        qpc = {"rule": self.rule, "bias": bias, "more": more}
        mean, found = candidate_loss(encoded["query"], products, scale, **qpc, **how)
        losses["qpc"] = 2 * mean if self.rule.both else mean  # of both ways; their sum is the loss
        metrics |= {NAMES.get(name, name): value for name, value in found.items()}
        if "keyword" in self.weights:
            losses["keyword"], found = candidate_loss(
                encoded["query"], products, scale, rule=self.keyword_rule, more=more, **how
            )
            metrics["keyword_positives"] = found["positives_per_row"]
        if "mlm" in self.weights:
            words = [encoded[name] for name in ("query_words", "title_words")]
            metrics |= {"loss_query_words": global_mean(words[0]), "loss_title_words": global_mean(words[1])}
            losses["mlm"] = global_mean(RowSum(*(sum(parts) for parts in zip(*words, strict=True))))
        if "mpm" in self.weights and config["mpm"]["form"] == "contrastive":
            tau = config["mpm"]["temperature"]
            losses["mpm"], found = patches.patch_contrast(encoded["patches"], tau=tau, near=NEAR, mesh=mesh)
            metrics |= found
        elif "mpm" in self.weights:
            losses["mpm"] = global_mean(encoded["patches"])
        if "image_share" in encoded:
            both_B = (batch["valid"] & product["has_image"] & product["has_text"]).astype(jnp.float32)
            metrics["image_share"] = (encoded["image_share"] * both_B).sum() / jnp.maximum(both_B.sum(), 1.0)
        if model.cross is not None:
            key_B, known_BxK = jax.random.wrap_key_data(encoded["draw"]), batch["known"]
            partners = draw_partners(
                key_B, encoded["query"], products, scale, mesh=mesh, rule=self.alike_rule, known_BxK=known_BxK
            )
            found, accuracies = self._match_losses(model, encoded, batch, products.valid_C, partners, mesh)
            losses |= found
            metrics |= accuracies
        total = sum(weight * losses[name] for name, weight in self.weights.items())
        return total, metrics | {f"loss_{name}": value for name, value in losses.items()}, new_extra

    def _match_losses(self, model, encoded, batch, valid_B, partners, mesh):
        """QPM of whole products, QIM of their pictures alone; (losses, accuracies) by name."""
        product, losses, accuracies = batch["product"], {}, {}
        picture_BxN = jnp.broadcast_to(product["has_image"][:, None], (len(valid_B), self.num_patches))
        text_BxL = product["text_mask"] & product["has_text"][:, None]
        shown = {"qpm": jnp.concatenate([picture_BxN, text_BxL], axis=1), "qim": picture_BxN}
        valid = {"qpm": valid_B, "qim": valid_B & product["has_image"]}
        states = {"qpm": "product_states", "qim": "picture_states"}
        query = (encoded["query_states"], batch["query"]["text_mask"])
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # where the blocks state their layout
            for name in shown:
                if name in self.weights:
                    items = (encoded[states[name]], shown[name], valid[name])
                    asked = {"query": query, "query_valid_B": valid_B, "items": items, "partners": partners}
                    losses[name], accuracies[f"{name}_accuracy"] = match_loss(model.cross, **asked, mesh=mesh)
        return losses, accuracies

    def constrain(self, params: dict) -> dict:
        """The temperature stays within its limits after every update."""
        low, high = (-math.log(limit) for limit in reversed(TEMPERATURES))
        return params | {"logit_scale": jnp.clip(params["logit_scale"], low, high)}

    def embed(self, model: QueryProductTowers, batch, views: tuple[str, ...]) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of "product", of its "image" or "text" alone; "query" reads texts as queries.

        `id_row` of the batch, int32 (B,), counts for "product" where ids are embedded.
        """
        embed = lambda shown: model.product_vector(read(model.joint, shown), shown.get("id_row"))
        alone = {name: x for name, x in batch.items() if name != "id_row"}
        vectors = encoders.embed_views(alone, tuple(view for view in views if view in ("image", "text")), embed)
        if "product" in views:
            vectors |= encoders.embed_views(batch, ("product",), embed)
        if "query" in views:
            vectors["query"] = model.query_vector(model.read_queries(batch["text_ids"], batch["text_mask"]))
        return vectors


def _at(products: Candidates, drawn, mesh) -> Candidates:
    """The products that rows have drawn, as further negatives of all rows."""
    index_B, found_B = drawn
    embedding, key, valid, group = fetch_rows(
        (products.embedding_CxD, products.key_C, products.valid_C, products.group_CxG), index_B, mesh=mesh
    )
    return Candidates(embedding, key, valid & found_B, group_CxG=group)


def _word_loss(model, states_BxLxW, chosen: Chosen, target_BxM, token_VxW):
    logits_BxMxV = model.heads["words"](chosen.take(states_BxLxW), token_VxW)
    return row_sum(cross_entropy(logits_BxMxV, target_BxM), chosen.used_BxM)
