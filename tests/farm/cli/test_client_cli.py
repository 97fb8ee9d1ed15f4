"""One file is all that a client on another machine needs."""

from __future__ import annotations

import json

from farm.wire.profile import Profile
from tests.farm.cli.runs import run


def test_one_file_makes_a_client_wherever_it_lies(farmctl, home, tmp_path):
    file = tmp_path / "laptop.json"
    exported = farmctl("client", "export", file)
    assert exported.exit_code == 0, exported.output
    port = json.loads(file.read_text())["server"].rpartition(":")[2]
    assert "other machines can't reach this farm" in exported.output
    assert f"farmctl up --listen 0.0.0.0:{port}`" in exported.output
    token = (home / "tls" / "client.token").read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600 and token not in exported.output
    assert (
        set(json.loads(file.read_text())) == {"server", "ca", "token"} and Profile.load(file).token == token
    )
    listed = run(tmp_path / "nothing", "--profile", file, "node", "list")
    assert listed.returncode == 0 and "trial" in listed.stdout, listed.stderr


def test_a_file_that_is_there_is_replaced_on_demand_alone(farmctl, tmp_path):
    file = tmp_path / "laptop.json"
    file.write_text("mine")
    refused = farmctl("client", "export", file)
    assert refused.exit_code == 2 and "--overwrite" in refused.output and file.read_text() == "mine"
    assert farmctl("client", "export", file, "--overwrite").exit_code == 0
    assert Profile.load(file).server
    refused = farmctl("client", "export", tmp_path)
    assert refused.exit_code == 2 and "is a folder" in refused.output


def test_standard_output_gets_the_file_and_nothing_else(farmctl, home):
    exported = farmctl("client", "export", "-", "--server", "farm.studio:7433")
    assert exported.exit_code == 0
    assert json.loads(exported.output)["server"] == "farm.studio:7433"
    refused = farmctl("client", "export", "-", "--server", "farm.studio")
    assert refused.exit_code == 1 and "--server: must be HOST:PORT" in refused.output
