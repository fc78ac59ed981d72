"""What dvc.yaml runs, a module a stage."""

import os

import pipeline.core.inputs

# Before all others: they remember the code that the stage runs, and when it began.
import pipeline.core.process  # noqa: F401

# numpy starts a thread a core for linear algebra, which no stage does. `import pandera.pandas`, 9 times on 2 cores:
# 0.46 s of CPU with them, 0.36 s without, and as long by the clock where a core is idle.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
