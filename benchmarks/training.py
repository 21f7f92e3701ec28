"""A training step beside PyTorch's: python -m benchmarks.training (pip install -e '.[benchmark]')

CLIP with ViT-B/32 at 224 pixels and a text encoder of 12 layers, width 512, 77 tokens, 49,408 words: ours, and
`transformers.CLIPModel` in eager mode and under `torch.compile`, each in float32 and in bfloat16 (autocast there). All
do the same: pictures of uint8 normalised, attention of every token to every token of the text under a mask, GELU by
tanh, one contrastive loss over the batch, gradients clipped by their global norm, AdamW (fused there) on float32.

Each contender is a process of its own that waits for its turn, so that no two share threads or run at a time; in every
round each takes one step. The ratio is the median over rounds of the peer's seconds over ours: above 1, ours is faster.
Processor seconds stand beside, since they depend less on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

SIZE, PATCH, LENGTH, VOCABULARY = 224, 32, 77, 49_408
CONTENDERS = tuple(f"{kind}-{dtype}" for dtype in ("float32", "bfloat16") for kind in ("ours", "eager", "compiled"))


def ours(dtype: str, batch: int) -> tuple[Callable[[], float], dict]:
    """One step of the loop's own program, and what it computes."""
    import jax

    from benchmarks.steps import make_step, random_batch
    from configs import eclip
    from ecommerce_vl.planning.flops import flops_of

    config = eclip.get_config("base")
    config.dtype, config.batch_size, config.total_samples = dtype, batch, 1_000 * batch
    config.text.width, config.text.heads, config.text.max_length, config.text.vocab_size = 512, 8, LENGTH, VOCABULARY
    config.image.remat = config.text.remat = "none"  # the peer keeps its activations too
    state, step, mesh = make_step(config)
    rows = random_batch(config, mesh)
    facts = {
        "version": f"jax {jax.__version__}",
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "flops": flops_of(step, state, rows)[0],
    }

    def take() -> float:
        nonlocal state
        state, metrics = step(state, rows)
        return float(metrics["loss"])

    return take, facts


def peer(dtype: str, batch: int, *, compiled: bool) -> tuple[Callable[[], float], dict]:
    """The same step by `transformers` and PyTorch."""
    import torch
    import transformers
    from torch.nn.functional import cross_entropy, normalize

    shared = {"hidden_act": "gelu_pytorch_tanh", "attn_implementation": "sdpa"}
    text = {"max_position_embeddings": LENGTH, "vocab_size": VOCABULARY}  # the rest are the defaults: ViT-B/32
    vision = {"image_size": SIZE, "patch_size": PATCH}
    model = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text | shared, vision_config=vision | shared, attn_implementation="sdpa")
    ).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, fused=True
    )
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (batch, 3, SIZE, SIZE)).astype(np.uint8))
    ids = torch.from_numpy(rng.integers(3, VOCABULARY, (batch, LENGTH)))
    shown, own = torch.ones(batch, 1, 1, LENGTH, dtype=torch.bool), torch.arange(batch)

    def loss_of(image, ids, shown):
        pixels = (image.float() / 255 - 0.5) / 0.25
        seen = model.visual_projection(model.vision_model(pixels).pooler_output)
        # Not `model.text_model`, which masks the future.
        encoder = model.text_model
        words = encoder.encoder(inputs_embeds=encoder.embeddings(ids), attention_mask=shown).last_hidden_state
        read = model.text_projection(encoder.final_layer_norm(words)[:, 0])
        z_image, z_text = normalize(seen.float(), dim=-1), normalize(read.float(), dim=-1)
        logits = model.logit_scale.exp() * z_image @ z_text.T
        return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2

    forward = torch.compile(loss_of) if compiled else loss_of

    def take() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = forward(image, ids, shown)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    parameters = sum(p.numel() for p in model.parameters())
    version = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return take, {"version": version, "parameters": parameters}


def work(name: str, batch: int) -> None:
    """A contender: tells what it is, then takes a step for every line that it is sent, and tells how long it took."""
    replies, sys.stdout = sys.stdout, sys.stderr  # what libraries print is not a reply
    kind, dtype = name.split("-")
    take, facts = ours(dtype, batch) if kind == "ours" else peer(dtype, batch, compiled=kind == "compiled")
    begin = time.perf_counter()
    take()
    facts["first_s"] = time.perf_counter() - begin
    take()
    print(json.dumps(facts), file=replies, flush=True)
    for _ in sys.stdin:
        begin, used = time.perf_counter(), time.process_time()
        loss = take()
        told = {"s": time.perf_counter() - begin, "cpu_s": time.process_time() - used, "loss": loss}
        print(json.dumps(told), file=replies, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        work(flags.worker, flags.batch)
        return

    facts, taken, workers = {}, {name: [] for name in flags.contenders}, {}
    try:
        for name in flags.contenders:  # one after the other: compilation disturbs too
            command = [sys.executable, "-m", "benchmarks.training", f"--worker={name}", f"--batch={flags.batch}"]
            workers[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            facts[name] = _reply(name, workers[name])
        for _ in range(flags.rounds):
            for name, worker in workers.items():
                worker.stdin.write("step\n")
                worker.stdin.flush()
                taken[name].append(_reply(name, worker))
                time.sleep(0.3)  # the threads of the last one may still spin
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    _show(flags, facts, taken)


def _reply(name: str, worker: subprocess.Popen) -> dict:
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"{name} ended with status {worker.wait()}; what it said stands above")
    return json.loads(line)


def _show(flags, facts: dict, taken: dict) -> None:
    versions = " · ".join(dict.fromkeys(fact["version"] for fact in facts.values()))
    print(f"{versions} · {os.cpu_count()} cores · batch {flags.batch} · {flags.rounds} rounds, medians")
    print(f"{'':18} {'M parameters':>12} {'s a step':>9} {'cpu s':>7} {'TFLOP/s':>8} {'ours is':>8} {'by cpu':>7}")
    flops = next((fact["flops"] for fact in facts.values() if "flops" in fact), 0)
    for name, turns in taken.items():
        seconds, used = (statistics.median(turn[key] for turn in turns) for key in ("s", "cpu_s"))
        rate = f"{flops / seconds / 1e12:.3f}" if flops else "-"
        line = f"{name:18} {facts[name]['parameters'] / 1e6:>12.1f} {seconds:>9.2f} {used:>7.2f} {rate:>8}"
        mine = taken.get(f"ours-{name.split('-')[1]}")
        if mine and mine is not turns:
            ratio = lambda key: statistics.median(b[key] / a[key] for a, b in zip(mine, turns, strict=True))  # noqa: B023
            line += f" {ratio('s'):>7.2f}x {ratio('cpu_s'):>6.2f}x"
        print(line)


if __name__ == "__main__":
    main()
