"""farmctl config: print the settings of farmd and farm-node."""

from __future__ import annotations

import click


@click.group()
def config() -> None:
    """Print the settings that the configuration files farm.toml and node.toml may contain.

    \b
    Example:
      farmctl config example > farm.toml
    """


@config.command()
@click.option(
    "--node", is_flag=True, help="Print farm-node's settings (node.toml) instead of farmd's (farm.toml)."
)
def example(node: bool) -> None:
    """Print a commented farm.toml: every setting with its default.

    \b
    Examples:
      farmctl config example > ~/.farm/farm.toml
      farmctl config example --node > node.toml
    """
    from farm.config import FarmConfig, NodeConfig, example_toml

    click.echo(example_toml(NodeConfig if node else FarmConfig), nl=False)
