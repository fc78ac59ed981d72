"""The words for what a quality check says of a snapshot, each with a sign for those who can't tell colours apart."""

PASSED, WARNED, FAILED, UNKNOWN = "passed", "warned", "failed", "not judged"

SIGNS = {PASSED: "✔", WARNED: "▲", FAILED: "✖", UNKNOWN: "–"}
