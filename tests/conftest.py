"""Eight simulated devices before JAX is imported, a compilation cache, and a prepared sample catalog for all tests."""

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CACHE = Path(tempfile.gettempdir()) / "ecommerce_vl_test_cache"
# The eight devices share two threads beside their own. Collectives that do not depend on each other may then wait for
# one another until XLA aborts (seen on a loaded machine, 2026-11): one at a time they cannot.
SIMULATION = "--xla_force_host_platform_device_count=8 --xla_cpu_enable_concurrency_optimized_scheduler=false"
# Most programs of the tests run once: compiling them without LLVM's optimizations takes a third less in all.
SIMULATION += " --xla_backend_optimization_level=0"
# jax 0.10 knows an older way to compile loops, which takes half the time; later ones do not.
if sys.version_info < (3, 12):
    SIMULATION += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {SIMULATION}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # two workers share what is small, too
sys.path.insert(0, str(ROOT))  # configs/ is a folder of the repository, not of the package

import pytest  # noqa: E402
from absl import flags  # noqa: E402

flags.FLAGS.mark_as_parsed()  # grain's worker processes read flags; a door has parsed them


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory) -> Path:
    """The folder that `prepare --feed=sample:240` writes."""
    from configs import prepare as prepare_config
    from ecommerce_vl.data.preparation import prepare_feed
    from ecommerce_vl.data.sample import write_sample

    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder / "feed", num_listings=240, seed=0)
    prepare_feed(
        str(folder / "feed" / "products.jsonl"),
        folder,
        config=prepare_config.get_config().to_dict(),
        progress=lambda label: lambda done, total: None,
    )
    return folder


@pytest.fixture(scope="session")
def tiny_config(sample_data) -> dict:
    """A configuration that trains in seconds: one layer, 32 pixels, batch 32."""
    from configs import quickstart

    config = quickstart.get_config()
    config.batch_size, config.total_samples = 32, 32 * 12
    config.image.size, config.image.patch_size, config.image.depth, config.image.width = 32, 8, 1, 48
    config.text.depth, config.text.width, config.text.max_length, config.text.vocab_size = 1, 32, 16, 400
    config.embed_dim = 32
    config.data.path = str(sample_data)
    config.log_every, config.checkpoint.every_steps, config.evaluate.every_steps = 2, 4, 0
    return config.to_dict()
