"""PluginService: lists what plugins offer to jobs, and the farm's presets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.v1 import plugins_pb2, plugins_pb2_grpc
from farm.wire.plugin_messages import plugin_messages, preset_message
from farmd.api.gate import Context

if TYPE_CHECKING:
    from farmd.intake import Intake


class PluginService(plugins_pb2_grpc.PluginServiceServicer):
    """Serves calls about plugins and presets."""

    def __init__(self, intake: Intake):
        self._intake = intake

    async def ListPlugins(
        self, request: plugins_pb2.ListPluginsRequest, context: Context
    ) -> plugins_pb2.ListPluginsResponse:
        """List models, strategies, samplers, guidances and outputs, with their options."""
        catalogue = self._intake.catalogue
        offers = {**catalogue.offers(), "output": list(catalogue.outputs.values())}
        return plugins_pb2.ListPluginsResponse(plugins=plugin_messages(offers))

    async def ListPresets(
        self, request: plugins_pb2.ListPresetsRequest, context: Context
    ) -> plugins_pb2.ListPresetsResponse:
        """List the farm's presets, adjusted to the model that the request names."""
        presets = self._intake.presets.of_model(request.model)
        return plugins_pb2.ListPresetsResponse(
            presets=[preset_message(name, preset) for name, preset in presets.items()]
        )
