"""A process that leads the farm at a URL and writes an event after the other, until it is told that it can't.

Says "leads" and then the number of each event that was taken.
"""

from __future__ import annotations

import sys
import time

from farm.processes.detached import this_process
from farm.store import Store
from farm.store.errors import DatabaseAway, Deposed


def main(url: str) -> None:
    """Writes until Deposed."""
    store = Store.lead(url, this_process("the test's leader"))
    print("leads", flush=True)
    while True:
        try:
            print(store.events.add("tick", "").number, flush=True)
        except DatabaseAway:
            pass
        except Deposed as error:
            sys.exit(str(error))
        time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1])
