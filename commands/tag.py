"""Give a snapshot a name that a paper can cite: an annotated tag of Git, whose message is the citation.

Without a name it only prints the citation of the commit. Refuses a commit whose snapshot failed its quality checks, and
one that is not what lies here.
"""

from __future__ import annotations

import argparse
import shlex

from pipeline.core.errors import ParamsError
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.versions import citation
from pipeline.versions.git import GitError, git


def tag(paths: Paths, name: str | None, revision: str) -> None:
    """Make the tag, if a name is given, and print the citation. Raises ParamsError for what can't be named."""
    found = citation.of(paths, revision)
    if name is None:
        print(found.line(found.commit))
        return
    citation.check_named(paths, found, revision)
    line = found.line(name)
    try:
        git("check-ref-format", f"refs/tags/{name}")
        git("tag", "--annotate", "--message", line, "--", name, found.commit)
    except GitError as error:
        raise ParamsError(
            f"{name!r} can't be a tag: {error.what.removesuffix(': ') or 'Git refuses it'}",
            where="NAME",
            expected="a name that Git takes and that is not taken",
            next_step="git tag, which lists those that are taken; a name without blanks and signs",
        ) from None
    print(f"{line}\ntag: {name} is {found.commit[:10]}; next: git push origin {shlex.quote(name)}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.tag", description=__doc__)
    parser.add_argument("name", nargs="?", help="the tag's name, such as 2025-study-1")
    parser.add_argument("--rev", default="HEAD", help="of another commit; HEAD by default")
    args = parser.parse_args()
    tag(project(), args.name, args.rev)


if __name__ == "__main__":
    run("tag", main)
