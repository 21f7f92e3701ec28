"""How exactly similarities are multiplied: GPUs would take TF32 for float32 by themselves, TPUs bfloat16, and a cosine
of bfloat16 has steps of 0.004, as large as what tells neighbours apart."""

PRECISION = "highest"
