"""A relative path counts from where a person gave it, whichever process uses it and wherever that runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from farm.config import InvalidConfig, environment_for_children, load_config, load_node_config

FARM_TOML = """
home = "state"
[store]
url = "sqlite:///jobs.db?timeout=5"
[artifacts]
url = "made"
[media]
roots = ["clips", "/mnt/clips", "~/clips"]
"""


@pytest.fixture
def studio(tmp_path, monkeypatch):
    """A folder of settings, called from another folder."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "called-in").mkdir()
    monkeypatch.chdir(tmp_path / "called-in")
    monkeypatch.setenv("HOME", "/home/artist")
    return tmp_path


def test_a_path_in_a_file_counts_from_the_file(studio):
    (studio / "etc" / "farm.toml").write_text(FARM_TOML)
    config = load_config(Path("../etc/farm.toml"), {})
    etc = studio / "etc"
    assert config.home == etc / "state" and config.artifacts.url == str(etc / "made")
    assert config.store.url == f"sqlite:///{etc}/jobs.db?timeout=5"
    assert [str(root) for root in config.media.roots] == [
        str(etc / "clips"),
        "/mnt/clips",
        "/home/artist/clips",
    ]


def test_a_path_in_the_environment_or_a_flag_counts_from_the_current_folder(studio):
    here = studio / "called-in"
    environ = {
        "FARM_HOME": "one",
        "FARM_MEDIA_ROOTS": "a,/b",
        "FARM_ARTIFACTS_URL": "file://made",
        "FARM_STORE_URL": "sqlite:///jobs.db",
    }
    config = load_config(None, environ, {"home": "other"})
    assert config.home == here / "other" and config.artifacts.url == f"file://{here}/made"
    assert config.media.roots == (here / "a", Path("/b"))
    assert config.store.url == f"sqlite:///{here}/jobs.db"


def test_a_child_in_another_folder_reads_the_same_settings(studio, monkeypatch):
    (studio / "called-in" / "node.toml").write_text('[models]\n"m" = "./weights"\n')
    environ = {
        "FARM_NODE_CONFIG": "node.toml",
        "FARM_NODE_HOME": "n",
        "FARM_MEDIA_ROOTS": "a,b",
        "FARM_NAME": "x",
    }
    wanted = load_node_config(None, environ), load_config(None, environ, {"home": "/farm"})
    handed_on = environ | environment_for_children(environ)
    monkeypatch.chdir("/")
    assert (load_node_config(None, handed_on), load_config(None, handed_on, {"home": "/farm"})) == wanted


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///:memory:", "sqlite:////srv/farm.db", "postgresql://h/d"]
)
def test_a_database_that_is_no_relative_file_is_left_alone(studio, url):
    assert load_config(None, {"FARM_HOME": "/h", "FARM_STORE_URL": url}).store.url == url


@pytest.mark.parametrize(
    "url", ["", "s3://bucket/farm", "memory://x", "/srv/made", "simplecache::s3://bucket/farm"]
)
def test_an_artifact_store_that_is_no_relative_folder_is_left_alone(studio, url):
    assert load_config(None, {"FARM_HOME": "/h", "FARM_ARTIFACTS_URL": url}).artifacts.url == url


def test_a_model_is_a_folder_beside_the_file_or_a_hub_id(studio):
    etc = studio / "etc"
    (etc / "Studio" / "weights").mkdir(parents=True)
    (studio / "called-in" / "Lightricks" / "LTX-Video").mkdir(parents=True)
    sources = {"a": "Studio/weights", "b": "Lightricks/LTX-Video", "c": "./new", "d": "/srv/m", "e": "../up"}
    lines = "".join(f'"{name}" = "{source}"\n' for name, source in sources.items())
    (etc / "node.toml").write_text(f"[models]\n{lines}")
    found = load_node_config(etc / "node.toml", {}).models
    assert found == {
        "a": str(etc / "Studio" / "weights"),
        "b": "Lightricks/LTX-Video",
        "c": str(etc / "new"),
        "d": "/srv/m",
        "e": str(studio / "up"),
    }


def test_a_folder_that_is_gone_matters_only_to_relative_paths(studio):
    os.rmdir(studio / "called-in")
    assert str(load_config(None, {"FARM_HOME": "/h"}, {"home": "/there"}).home) == "/there"
    for given in ({"environ": {"FARM_HOME": "h"}}, {"path": Path("farm.toml")}, {"overrides": {"home": "h"}}):
        whole: dict[str, Any] = {"path": None, "environ": {}} | given
        with pytest.raises(
            InvalidConfig, match="is a relative path, but the current folder no longer exists"
        ):
            load_config(**whole)
