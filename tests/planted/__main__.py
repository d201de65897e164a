"""`python -m tests.planted [NAME …]` plants each bug and says whether its test noticed; `--page` prints docs/planted-bugs.md."""

from __future__ import annotations

import sys
import time

from tests.planted.bug import Bug, Unplantable
from tests.planted.bugs import BUGS
from tests.planted.page import page
from tests.planted.runner import Escaped, catch, copied_tree, sound


def main(arguments: list[str]) -> int:
    """The exit code: 0 when every bug was caught, 1 when one was not, 2 for a name there is not."""
    if arguments == ["--page"]:
        print(page(), end="")
        return 0
    named = {bug.name: bug for bug in BUGS}
    if unknown := [name for name in arguments if name not in named]:
        print(f"no such bug: {', '.join(unknown)}; there are: {', '.join(named)}", file=sys.stderr)
        return 2
    return run([named[name] for name in arguments] or list(BUGS))


def run(bugs: list[Bug]) -> int:
    """Plants them one after the other in one copy of the tree."""
    escaped = 0
    with copied_tree() as tree:
        try:
            sound(tree, bugs)
        except Escaped as exc:
            print(exc, file=sys.stderr)
            return 1
        for bug in bugs:
            started = time.monotonic()
            try:
                catch(bug, tree)
            except (Escaped, Unplantable) as exc:
                escaped += 1
                print(f"ESCAPED  {bug.name}", flush=True)
                print(exc, file=sys.stderr)
            else:
                print(f"caught   {bug.name}  {time.monotonic() - started:.1f} s  {bug.test}", flush=True)
    print(f"{len(bugs) - escaped} of {len(bugs)} planted bugs caught")
    return 1 if escaped else 0


sys.exit(main(sys.argv[1:]))
