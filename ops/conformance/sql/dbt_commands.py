"""Runs commands of dbt, one after the other in one process (starting dbt takes longer than what it does here).

    dbt_commands.py '[["build"], ["build", "--select", "large"]]'

Runs in dbt's own environment; the last line printed is JSON, for each command whether it succeeded, the status of each
node by name, and what failed.
"""

import json
import sys

from dbt.cli.main import dbtRunner


def main() -> None:
    answers = []
    for arguments in json.loads(sys.argv[1]):
        done = dbtRunner().invoke(arguments)
        results = getattr(done.result, "results", None) or []
        answers.append({"success": done.success, "statuses": {r.node.name: str(r.status) for r in results if hasattr(r, "node")},
                        "failures": [r.message for r in results if getattr(r, "message", None) and str(r.status) in ("error", "fail")],
                        "exception": str(done.exception) if done.exception else None})
    print("\n" + json.dumps(answers))


if __name__ == "__main__":
    main()
