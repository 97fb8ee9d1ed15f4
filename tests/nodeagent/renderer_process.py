"""A renderer as its own process, driven through standard input instead of Ray: a JSON object a line."""

from __future__ import annotations

import contextlib
import json
import sys

from renderer.exchange import Answer, NeighbourRequest
from renderer.renderer import Renderer


class Nobody:
    """There is no other renderer."""

    def ask(self, renderer: str, question: NeighbourRequest) -> Answer:
        return False, None


renderer = Renderer(sys.argv[1], Nobody())
print(renderer.ping(), flush=True)
for line in sys.stdin:
    call = json.loads(line)
    # As Ray does: what a call raises ends the call, and nothing else.
    with contextlib.suppress(BaseException):
        renderer.run(call["attempt_id"], call["epoch"], json.dumps(call["payload"]).encode())
    print(json.dumps({"returned": call["attempt_id"], "torch": "torch" in sys.modules}), flush=True)
