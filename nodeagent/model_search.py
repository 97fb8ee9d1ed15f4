"""Looks for the models that this machine offers: at the agent's start, and repeatedly while a model is missing.

Each search runs in a separate process (nodeagent.offers), because plugins may import anything. This module keeps the
results, which the agent reports to the farm.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import structlog

from farm.backoff import Backoff
from farm.config import NodeConfig
from farm.damaged_files import of_system
from farm.processes.children import child_environment, python_command

log = structlog.get_logger()

_LOOK_AGAIN_SECONDS = 30.0
"""Between two looks for models that this machine should have and hasn't: a look is a third of a second's work."""
_RARELY_SECONDS = 600.0
"""The same in the end where nobody has said that it should have them."""
_LONGEST_TROUBLE = 500


class ModelSearch:
    """Searches this machine for models, repeatedly, until all models are found.

    Attributes:
        models: The source and the hash of the weights of each model that was found, by model name.
        troubles: The reasons why models can't be offered, by model name. The key "" has the reason why a search as a
            whole failed.
        looked: An event that is set after the first search.
    """

    def __init__(self, config: NodeConfig, found: Callable[[], None], changed: Callable[[], None]):
        """`found()` is called for each model that is found, `changed()` when the troubles have changed."""
        self.models: dict[str, tuple[str, str]] = {}
        self.troubles: dict[str, str] = {}
        self.looked = asyncio.Event()
        self._config, self._found, self._changed = config, found, changed

    async def run(self) -> None:
        """Search for models repeatedly until all are found. Each search updates `models` and `troubles`.

        A later search may find more models, for example because a disk was mounted or has space again.
        """
        candidates: dict[str, tuple[str, str]] = {}
        pauses = Backoff(_LOOK_AGAIN_SECONDS, _RARELY_SECONDS)
        while True:
            troubles, missing = await self._look(candidates)
            for model, why in troubles.items():
                if why != self.troubles.get(model):
                    log.error("a model is not offered", model=model, problem=why)
            if troubles != self.troubles:
                self.troubles = troubles
                self._changed()
            self.looked.set()
            if not missing:
                return
            await asyncio.sleep(pauses.next())
            if troubles or candidates.keys() - self.models.keys():
                pauses.reset()

    async def _look(self, candidates: dict[str, tuple[str, str]]) -> tuple[dict[str, str], bool]:
        """Look once. Return why models aren't offered, by name ("" for all), and whether any is missing.

        A model found at the first look is offered at once. Later, somebody may still be copying it. So it stays among the
        `candidates` (source and weights by name) until two looks have found the same.
        """
        troubles: dict[str, str] = {}
        missing = False
        try:
            async for offer in self._offers():
                model = offer["model"]
                if "weights" in offer:
                    found = offer["source"], offer["weights"]
                    if self.looked.is_set() and candidates.get(model) != found:
                        candidates[model], missing = found, True
                        continue
                    log.info("model found", **offer)
                    self.models[model] = found
                    self._found()
                else:
                    missing = True
                    if "problem" in offer:
                        troubles[model] = offer["problem"][:_LONGEST_TROUBLE]
                    if "traceback" in offer and troubles[model] != self.troubles.get(model):
                        log.error(
                            "a plugin can't look for a model", model=model, traceback=offer["traceback"]
                        )
        except OSError as error:
            return {"": f"this machine can't look for models: {of_system(error)}"}, True
        return troubles, missing

    async def _offers(self) -> AsyncIterator[dict[str, str]]:
        process = await asyncio.create_subprocess_exec(
            *python_command("nodeagent.offers"),
            env=child_environment(),
            cwd=self._config.home,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            asked = {
                "home": str(self._config.home),
                "configured": dict(self._config.models),
                "offered": list(self.models),
            }
            into, out = process.stdin, process.stdout
            assert into and out  # both are pipes
            into.write(json.dumps(asked).encode())
            into.close()
            async for line in out:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # a plugin's own print
            if code := await process.wait():
                yield {
                    "model": "",
                    "problem": f"looking for models failed (exit status {code}); see this node's log",
                }
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
