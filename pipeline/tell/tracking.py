"""A run in MLflow, where MLFLOW_TRACKING_URI is set. A process of its own: reads the message as JSON."""

from __future__ import annotations

import logging
import os

from pipeline.core.env import setting
from pipeline.tell import child

EXPERIMENT = "behavioral-events"


def main() -> None:
    message = child.message()
    # A server that is away costs four minutes with MLflow's defaults.
    os.environ.update(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT="2")
    try:
        import mlflow  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        print("MLFLOW_TRACKING_URI is set and mlflow is not installed; next: pip install -r requirements-mlflow.txt")
        raise SystemExit(1) from None
    logging.disable(logging.CRITICAL)
    child.ready()
    try:
        mlflow.set_tracking_uri(setting("MLFLOW_TRACKING_URI"))
        mlflow.set_experiment(setting("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)
        with mlflow.start_run(run_name=message["name"]):
            mlflow.log_params(message["params"])
            mlflow.log_metrics(message["metrics"])
            mlflow.set_tags(message["tags"])
    except Exception as error:  # requests', urllib3's, MLflow's: no common base, and a monitor ends no night
        print(f"{type(error).__name__} from the server of MLFLOW_TRACKING_URI")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
