"""farmctl config: what can be set."""

from __future__ import annotations

import click


@click.group()
def config() -> None:
    """What can be set, and where.

    \b
    Example:
      farmctl config example > farm.toml
    """


@config.command()
@click.option("--node", is_flag=True, help="The settings of farm-node instead of farmd's.")
def example(node: bool) -> None:
    """Print a commented farm.toml: every setting with its default.

    \b
    Examples:
      farmctl config example > ~/.farm/farm.toml
      farmctl config example --node > node.toml
    """
    from farm.config import FarmConfig, NodeConfig, example_toml

    click.echo(example_toml(NodeConfig if node else FarmConfig), nl=False)
