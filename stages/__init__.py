"""What dvc.yaml runs, a module a stage."""

import gc
import importlib.util
import os
import sys

import pipeline.core.process  # noqa: F401  # first: it notes when a stage began, and imports are a good part of its time

# By default the collector walks what the imports make hundreds of times.
gc.set_threshold(50_000)

# What libraries import where it is installed, and a stage does without: numpy in pyarrow (a twentieth of a second), and
# Hypothesis in Pandera, for the making of test data (a quarter). The stage is known before it is imported.
WITHOUT = {"stages.extract": "numpy", "stages.export": "numpy", "stages.validate": "hypothesis"}
for stage, library in WITHOUT.items():
    if sys.orig_argv[1:3] == ["-m", stage]:
        sys.modules[library] = None  # type: ignore[assignment]

# numpy's threads for linear algebra, which no stage does, would spin at every start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if importlib.util.find_spec("pyarrow") is None:
    sys.exit(
        f"error: {sys.executable} has not the project's packages\n"
        "  next:     source .venv/bin/activate (make setup makes it), or use the make targets"
    )
