"""The configuration that is taken, and which environment is meant."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from config_text import SMALL, read, with_line
from pydantic import ValidationError

from tasks.core.config import choose_environment, parse
from tasks.core.errors import UsageError
from tasks.core.hosts import Host

CONFIG = Path(__file__).parents[2] / "config"


def test_a_small_configuration_has_the_documented_defaults() -> None:
    settings = read(SMALL)
    assert (settings.environment, settings.app.name, settings.source.branch) == ("prod", "www", "main")
    assert settings.link == "/srv/app/current"
    assert (settings.targets.keep, settings.targets.fail_limit, settings.ssh.connections) == (5, 0, 64)
    assert (settings.targets.after_flip, settings.targets.become, settings.ssh.agent) == (None, None, False)
    assert settings.zones == ("eu",)


def test_a_link_elsewhere_is_taken() -> None:
    assert read(with_line("[targets]", 'link = "/srv/www"')).link == "/srv/www"


def test_hosts_come_in_the_order_of_the_file_with_their_group_and_zone() -> None:
    settings = parse((CONFIG / "prod.toml").read_text(), "prod", "config/prod.toml")
    assert [host.name for host in settings.hosts] == [f"web-{number:03}" for number in range(1, 101)]
    assert {(host.group, host.zone) for host in settings.hosts} == {("web-eu", "eu"), ("web-us", "us")}
    assert settings.hosts is settings.hosts


def test_what_a_host_says_goes_before_what_its_group_says() -> None:
    group = '[targets.groups.far]\nport = 2222\nuser = "ops"\ngateway = "bastion"\nzone = "eu"\n'
    entries = 'hosts = ["a-[1-2]", { name = "b", address = "2001:db8::1", port = 22, user = "me", gateway = "me@b" }]\n'
    assert read(SMALL + group + entries).hosts[3:] == (
        Host("a-1", "far", "eu", None, 2222, "ops", "bastion"),
        Host("a-2", "far", "eu", None, 2222, "ops", "bastion"),
        Host("b", "far", "eu", "2001:db8::1", 22, "me", "me@b"),
    )


def test_one_address_serves_several_hosts_when_the_ports_or_the_gateways_differ() -> None:
    entries = ", ".join(
        f'{{ name = "h{number}", address = "10.0.0.5", {more} }}'
        for number, more in enumerate(["port = 22", "port = 23", 'gateway = "a"', 'gateway = "b"'])
    )
    assert len(read(with_line("[targets.groups.web]", f"hosts = [{entries}]")).hosts) == 4


@pytest.mark.parametrize(
    ("host", "name", "url"),
    [
        ('host = "m"', "m", "ssh://deploy@m/srv/git/www.git"),
        ('host = { name = "m", port = 2222, user = "git" }', "m", "ssh://git@m:2222/srv/git/www.git"),
        ('host = { name = "m", address = "2001:db8::1" }', "m", "ssh://deploy@[2001:db8::1]/srv/git/www.git"),
        ('host = "m"\nurl = "git://m.internal/www.git"', "m", "git://m.internal/www.git"),
        ('url = "file:///srv/git/www.git"', "this machine:/srv/git/www.git", "file:///srv/git/www.git"),
    ],
)
def test_a_mirror_says_its_name_and_where_targets_reach_it(host: str, name: str, url: str) -> None:
    mirror = read(SMALL.replace('host = "mirror-1"', host)).mirrors[0]
    assert (mirror.name, mirror.target_url("deploy")) == (name, url)
    assert (mirror.server.name if mirror.server else None) == (None if name.startswith("this") else name)


@pytest.mark.parametrize(("path", "shown"), [("~/git/a.git", "/~/git/a.git"), ("/srv/a b%41?", "/srv/a%20b%2541%3F")])
def test_the_path_of_a_mirror_survives_git_s_reading_of_its_address(path: str, shown: str) -> None:
    settings = read(with_line("[[mirrors]]", f'path = "{path}"'))
    assert settings.mirrors[0].target_url(None) == f"ssh://mirror-1{shown}"


@pytest.mark.parametrize(
    "url",
    ["ssh://git@m:22/a.git", "ssh://[2001:db8::1]/a", "git://m/a", "file:///a", "https://me@m/a", "/srv/a"],
)
def test_a_url_that_git_may_be_given_is_taken(url: str) -> None:
    assert read(with_line("[[mirrors]]", f'url = "{url}"')).mirrors[0].target_url("x") == url


@pytest.mark.parametrize("limit", ["0", "3", '"0%"', '"2%"', '"100%"'])
def test_a_fail_limit_is_a_number_or_a_percentage(limit: str) -> None:
    settings = read(with_line("[targets]", f"fail_limit = {limit}"))
    assert settings.targets.fail_limit == tomllib.loads(f"x = {limit}")["x"]


@pytest.mark.parametrize("gateway", ["bastion", "ops@bastion", "bastion:2222", "ops@10.0.0.1:22", "[2001:db8::1]:22"])
def test_a_gateway_is_a_host_with_an_optional_user_and_port(gateway: str) -> None:
    assert read(with_line("[ssh]", f'gateway = "{gateway}"')).ssh.gateway == gateway


def test_the_digest_follows_the_meaning_and_not_the_writing() -> None:
    same = SMALL.replace("[ssh]\n", "# a comment\n[ssh]\nconnections = 64\n")
    assert read(same).digest == read(SMALL).digest
    assert re.fullmatch("[0-9a-f]{64}", read(SMALL).digest)
    assert read(with_line("[ssh]", "connections = 63")).digest != read(SMALL).digest
    assert parse(SMALL, "staging", "x").digest != read(SMALL).digest


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        read(SMALL).targets.keep = 6  # type: ignore[misc]


@pytest.mark.parametrize(
    ("available", "asked", "variable", "chosen"),
    [
        (["prod", "staging"], "staging", "prod", "staging"),
        (["prod", "staging"], None, "staging", "staging"),
        (["demo", "example", "lab", "prod", "vagrant"], None, None, "prod"),
        (["prod"], None, "", "prod"),
        (["demo", "prod"], "demo", None, "demo"),
    ],
)
def test_the_flag_goes_before_the_variable_and_the_variable_before_the_only_one(
    available: list[str], asked: str | None, variable: str | None, chosen: str
) -> None:
    assert choose_environment(available, asked, variable) == chosen


@pytest.mark.parametrize(
    ("available", "asked", "variable", "message"),
    [
        (["staging", "prod"], None, None, "say which environment is meant with --env or SKEIN_ENV; there are: prod"),
        (["demo", "example"], None, None, "there are: demo, example"),
        ([], None, None, "none yet; copy config/example.toml"),
        (["prod", "eu"], "prdo", None, "--env: no environment is named 'prdo' (did you mean 'prod'?); there are: eu"),
        (["prod"], None, "prd", "SKEIN_ENV: no environment is named 'prd' (did you mean 'prod'?); there are: prod"),
        (["prod"], "../prod", None, "'../prod' is no environment: up to 32 lower-case letters, digits and dashes"),
        (["prod"], "", None, "'' is no environment"),
    ],
)  # fmt: skip
def test_an_environment_that_is_not_there_or_not_clear_is_a_usage_error_with_the_list(
    available: list[str], asked: str | None, variable: str | None, message: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        choose_environment(available, asked, variable)
    assert message in str(refusal.value)
    assert refusal.value.exit_code == 2
