"""Where everything is. The one place that knows a path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# What dvc.yaml runs, in the order of their data.
STAGES = ("extract", "validate", "export", "load", "report")


@dataclass(frozen=True)
class Paths:
    """The files and folders of a project at `root`. Relative where `root` is."""

    root: Path = Path()

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def watermark(self) -> Path:
        return self.root / "watermark.yaml"

    @property
    def dvc_yaml(self) -> Path:
        return self.root / "dvc.yaml"

    @property
    def dvc_lock(self) -> Path:
        return self.root / "dvc.lock"

    @property
    def queries(self) -> Path:
        return self.root / "queries"

    @property
    def schemas(self) -> Path:
        """What tables are: a module for each."""
        return self.root / "schemas"

    @property
    def app(self) -> Path:
        """The app's own schema, as Prisma has it."""
        return self.schemas / "app"

    @property
    def migration(self) -> Path:
        """The SQL that Prisma makes of the app's schema."""
        return self.app / "migration.sql"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def raw(self) -> Path:
        """What PostgreSQL held: a folder for each table, in it a file for each day or month."""
        return self.data / "raw"

    @property
    def quarantine(self) -> Path:
        """Rows that break the contract: a file for each table."""
        return self.data / "quarantine"

    @property
    def export(self) -> Path:
        """What is published: a folder for each table, in it a file for each day or month."""
        return self.data / "export"

    @property
    def database(self) -> Path:
        return self.data / "analytics.duckdb"

    @property
    def reports(self) -> Path:
        return self.data / "reports"

    @property
    def extract_report(self) -> Path:
        return self.reports / "extract.json"

    @property
    def validation_report(self) -> Path:
        return self.reports / "validation.json"

    @property
    def quality_report(self) -> Path:
        return self.reports / "quality.json"

    @property
    def load_report(self) -> Path:
        return self.reports / "load.json"

    @property
    def checks_report(self) -> Path:
        return self.reports / "checks.json"

    @property
    def report(self) -> Path:
        """The quality page, and its series as CSV."""
        return self.data / "report"

    @property
    def page(self) -> Path:
        return self.report / "quality.html"

    @property
    def failures(self) -> Path:
        """Failing cells with their values. They stay on this machine."""
        return self.reports / "validation_failures.csv"

    @property
    def experiments(self) -> Path:
        """Where DVC keeps copies of the project for experiments, and what `dvc exp show` remembers of them."""
        return self.root / ".dvc" / "tmp" / "exps"

    @property
    def rwlock(self) -> Path:
        """Which files DVC's runs read and write at the moment."""
        return self.root / ".dvc" / "tmp" / "rwlock"

    def verified(self, name: str) -> Path:
        """What `name` verified on this machine before: a cache that may be lost."""
        return self.data / ".verified" / f"{name}.json"

    def note(self, stage: str) -> Path:
        """What the last run of the stage or command on this machine took and came to."""
        return self.data / ".notes" / f"{stage}.json"

    @property
    def runs(self) -> Path:
        """Every run on this machine, good or bad."""
        return self.data / "runs.jsonl"

    @property
    def night_lock(self) -> Path:
        return self.data / ".night.lock"

    @property
    def failed(self) -> Path:
        """The report of a night that failed a quality check, beside the last good one."""
        return self.data / "failed"

    @property
    def bundles(self) -> Path:
        """Archives to hand over. They are not searched for a user who asks to be forgotten."""
        return self.root / "bundles"

    def quarantined(self, table: str) -> Path:
        return self.quarantine / f"{table}.parquet"
