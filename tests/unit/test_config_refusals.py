"""What a configuration is refused for, and in which words."""

from __future__ import annotations

import re

import pytest
from config_text import SMALL, problems, read, with_line

from tasks.core.config import parse
from tasks.core.errors import ConfigError

WEB = "[targets.groups.web]"


def test_five_different_mistakes_are_all_reported_at_once() -> None:
    text = with_line("[targets]", "kep = 5")
    text = with_line("[ssh]", 'connections = "64"', text)
    text = with_line("[[mirrors]]", 'path = "srv/git/www.git"', text)
    text += '[targets.groups.us]\nhosts = ["-oProxyCommand=x", "web-2"]\nzone = "eus"\n'
    found = problems(text)
    assert sorted(problem.split(":")[0] for problem in found) == [
        "mirrors[0].path",
        "ssh.connections",
        "targets.groups.us.hosts[0]",
        "targets.groups.us.hosts[1]",
        "targets.groups.us.zone",
        "targets.kep",
    ]
    with pytest.raises(ConfigError, match=r"^config/prod\.toml: 6 problems\n  ") as refusal:
        read(text)
    assert refusal.value.exit_code == 2
    assert all(problem in str(refusal.value) for problem in found)


def test_a_key_that_stands_in_the_wrong_table_is_told_its_own() -> None:
    assert problems(SMALL.replace("[targets.groups.web]\n", "[targets.groups.web]\nkeep = 3\n")) == (
        "targets.groups.web.keep: unknown key (it belongs in [targets])",
    )


@pytest.mark.parametrize(
    ("table", "line", "problem"),
    [
        ("[app]", 'nmae = "x"', "nmae: unknown key (did you mean 'name'?)"),
        ("[app]", 'name = "a b"', "name: 'a b' is no name"),
        ("[app]", "name = 7", "name: must be text in quotes, not 7"),
        ("[app]", 'name = "-x"', "name: '-x' is no name"),
        ("[source]", 'host = "-oProxyCommand=x"', "host: malformed host '-oProxyCommand=x'"),
        ("[source]", 'host = "server-[1-2]"', "host: must name one host, not a range"),
        ("[source]", 'path = "www"', "path: bad path 'www'"),
        ("[source]", 'branch = "--upload-pack=x"', "branch: '--upload-pack=x' is no ref"),
        ("[source]", 'branch = "main~1"', "branch: 'main~1' is no branch"),
        ("[source]", 'subdir = "../x"', "subdir: bad path '../x'"),
        ("[source]", 'subdir = "/x"', "subdir: bad path '/x'"),
        ("[source]", 'signing_key = "-x"', "signing_key: '-x' names no key"),
        ("[[mirrors]]", 'host = "-oProxyCommand=x"', "host: malformed host '-oProxyCommand=x'"),
        ("[[mirrors]]", 'host = "m-[1-2]"', "host: must name one host, not a range"),
        ("[[mirrors]]", "host = 7", "host: must be a host's name or a table"),
        ("[[mirrors]]", 'host = { port = 22 }', "host.name: missing"),
        ("[[mirrors]]", 'path = "/~git/x"', "path: bad path '/~git/x': it may not begin with /~"),
        ("[[mirrors]]", 'url = "-x"', "url: bad url '-x'"),
        ("[[mirrors]]", 'url = "ext::sh"', "url: bad url 'ext::sh'"),
        ("[[mirrors]]", 'url = "ssh:m/x"', "url: bad url 'ssh:m/x'"),
        ("[[mirrors]]", 'url = "ssh://-oProxyCommand=x/y"', "url: bad url 'ssh://-oProxyCommand=x/y'"),
        ("[[mirrors]]", 'url = "ssh://-l@m/y"', "url: bad url 'ssh://-l@m/y'"),
        ("[[mirrors]]", 'url = "ssh://m:x/y"', "url: bad url 'ssh://m:x/y'"),
        ("[[mirrors]]", 'url = "ssh://m"', "url: bad url 'ssh://m'"),
        ("[[mirrors]]", 'url = "file://m/y"', "url: bad url 'file://m/y'"),
        ("[[mirrors]]", r'url = "git://m/\n"', r"url: bad url 'git://m/\n'"),
        ("[[mirrors]]", 'url = "https://me:secret@m/x"', "url: bad url: it may not hold a password"),
        ("[ssh]", 'user = "-l"', "user: '-l' is no user name"),
        ("[ssh]", 'user = "a b"', "user: 'a b' is no user name"),
        ("[ssh]", "agent = 1", "agent: must be true or false, not 1"),
        ("[ssh]", "connections = 0", "connections: must be at least 1, not 0"),
        ("[ssh]", "connections = 1001", "connections: must be at most 1000, not 1001"),
        ("[ssh]", "connections = 1.0", "connections: must be a whole number, not 1.0"),
        ("[ssh]", "connections = true", "connections: must be a whole number, not true"),
        ("[ssh]", "connections = 2026-11-22", "connections: must be a whole number, not 2026-11-22"),
        ("[ssh]", 'gateway = "-oProxyCommand=x"', "gateway: malformed gateway '-oProxyCommand=x'"),
        ("[ssh]", 'gateway = "-l@bastion"', "gateway: malformed gateway '-l@bastion'"),
        ("[ssh]", 'gateway = "bastion:65536"', "gateway: malformed gateway 'bastion:65536'"),
        ("[ssh]", 'gateway = "bastion:"', "gateway: malformed gateway 'bastion:'"),
        ("[ssh]", 'gateway = "2001:db8::1"', "gateway: malformed gateway '2001:db8::1'"),
        ("[ssh]", 'gateway = "[-x]"', "gateway: malformed gateway '[-x]'"),
        ("[ssh]", 'known_hosts = "known_hosts"', "known_hosts: bad path 'known_hosts'"),
        ("[targets]", 'deploy_to = "srv"', "deploy_to: bad path 'srv'"),
        ("[targets]", 'deploy_to = "/"', "deploy_to: bad path '/': it must lie below"),
        ("[targets]", 'deploy_to = "//"', "deploy_to: bad path '//': it must lie below"),
        ("[targets]", 'deploy_to = "~/"', "deploy_to: bad path '~/': it must lie below"),
        ("[targets]", 'deploy_to = "~root/x"', "deploy_to: bad path '~root/x'"),
        ("[targets]", 'deploy_to = "/srv/../etc"', "deploy_to: bad path '/srv/../etc': it may not hold .."),
        ("[targets]", 'deploy_to = "/srv//app/"', "deploy_to: bad path '/srv//app/': write it as '/srv/app'"),
        ("[targets]", 'deploy_to = "//srv"', "deploy_to: bad path '//srv': write it as '/srv'"),
        ("[targets]", r'deploy_to = "/srv\n"', r"deploy_to: bad path '/srv\n'"),
        ("[targets]", 'link = "/srv/app"', "link: '/srv/app' would replace what holds deploy_to"),
        ("[targets]", 'link = "/srv"', "link: '/srv' would replace what holds deploy_to"),
        ("[targets]", 'link = "/srv/app/shared"', "link: '/srv/app/shared' lies inside /srv/app/shared"),
        ("[targets]", 'link = "/srv/app/.skein/x"', "link: '/srv/app/.skein/x' lies inside /srv/app/.skein"),
        ("[targets]", "keep = 0", "keep: must be at least 1, not 0"),
        ("[targets]", 'linked_dirs = "a"', "linked_dirs: must be a list, not 'a'"),
        ("[targets]", 'linked_dirs = ["a/"]', "linked_dirs[0]: bad path 'a/': write it as 'a'"),
        ("[targets]", 'linked_dirs = ["./a"]', "linked_dirs[0]: bad path './a': write it as 'a'"),
        ("[targets]", 'linked_dirs = ["."]', "linked_dirs[0]: bad path '.': name something inside"),
        ("[targets]", 'linked_dirs = [""]', "linked_dirs[0]: bad path '': name something inside"),
        ("[targets]", r'linked_files = ["a\nb"]', r"linked_files[0]: bad path 'a\nb'"),
        ("[targets]", 'linked_files = ["a", "b/../c"]', "linked_files[1]: bad path 'b/../c'"),
        ("[targets]", 'linked_dirs = ["a", "a"]', "linked_dirs[1]: 'a' is targets.linked_dirs[0] already"),
        ("[targets]", 'linked_dirs = ["a/b/c", "a"]', "linked_dirs[0]: 'a/b/c' lies inside 'a', which is linked as"),
        ("[targets]", "fail_limit = -1", "fail_limit: must be a number of hosts"),
        ("[targets]", "fail_limit = true", "fail_limit: must be a number of hosts"),
        ("[targets]", 'fail_limit = "101%"', "fail_limit: must be a number of hosts"),
        ("[targets]", 'fail_limit = "2"', "fail_limit: must be a number of hosts"),
        ("[targets]", 'become = "root; id"', "become: 'root; id' is no user name"),
        ("[targets]", "after_flip = []", "after_flip: must not be empty"),
        ("[targets]", 'after_flip = [""]', "after_flip[0]: a word of a command may not be empty"),
        ("[targets]", 'after_flip = "reload"', "after_flip: must be a list, not 'reload'"),
        ("[targets]", "stage_timeout = 0", "stage_timeout: must be at least 1"),
        (WEB, "hosts = []", "hosts: must not be empty"),
        (WEB, 'hosts = ["web-[3-1]"]', "hosts[0]: malformed host range 'web-[3-1]'"),
        (WEB, 'hosts = ["2001:db8::1"]',
         "hosts[0]: malformed host '2001:db8::1': write a table"),
        (WEB, 'hosts = ["a", "a"]', "hosts[1]: duplicate host a, already in"),
        (WEB, 'hosts = ["a-[1-3],a-2"]', "hosts[0]: duplicate host a-2"),
        (WEB, 'hosts = ["a", "A"]', "hosts[1]: duplicate host A, already in"),
        (WEB, 'hosts = ["a-[1-2]", { name = "b", address = "a-2" }]',
         "hosts[1]: b has the address and port of a-2 in targets.groups.web.hosts[0]"),
        (WEB, 'hosts = [{ name = "a", address = "::1" }, { name = "b", address = "0:0::1", port = 22 }]',
         "hosts[1]: b has the address and port of a in"),
        (WEB, 'hosts = [{ name = "a", address = "-oProxyCommand=x" }]',
         "hosts[0].address: malformed address '-oProxyCommand=x'"),
        (WEB, 'hosts = [{ name = "a", address = "fe80::1%-o" }]',
         "hosts[0].address: malformed address 'fe80::1%-o'"),
        (WEB, 'hosts = [{ name = "a-[1-2]", address = "b" }]',
         "hosts[0]: an address belongs to one host"),
        (WEB, 'hosts = [{ name = "a", prot = 22 }]',
         "hosts[0].prot: unknown key (did you mean 'port'?)"),
        (WEB, 'zone = "ue"', "zone: no mirror has the zone 'ue' (did you mean 'eu'?)"),
        (WEB, "port = 65536", "port: must be at most 65535"),
        ("[transport]", 'kind = "gti"',
         "kind: must be one of auto, git, inline, swarm, rsync, rsyncd, nfs (did you mean 'git'?)"),
        ("[transport]", 'kind = "rsync"', "kind: rsync is not supported yet: use auto, inline, git or swarm"),
        ("[transport]", 'kind = "swarm"', "kind: swarm opens a port on every host: allow that with swarm"),
        ("[transport]", 'swarm = { enabled = "yes" }', "swarm.enabled: must be true or false"),
        ("[transport]", "swarm = { port = 0 }", "swarm.port: must be at least 1"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_problem_in_plain_words(table: str, line: str, problem: str) -> None:
    found = problems(with_line(table, line))
    assert len(found) == 1, found
    assert found[0].startswith(f"{table.strip('[]').replace('mirrors', 'mirrors[0]')}.{problem}")
    assert found[0].isprintable()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[[mirrors]]", "[mirrors]", "mirrors: must be a list; where tables are wanted, write [[mirrors]]"),
        ("[app]", "[[app]]", "app: must be a table, not a list"),
        ('[app]\nname = "www"\n', "", "app: missing; it must be given"),
        ('host = "mirror-1"', "", "mirrors[0].url: a mirror on this machine, without host, needs url"),
        ('path = "/srv/www"', 'path = "/srv/www"\nhost = "server-1"\n[[mirrors]]\npath = "/srv/here.git"\nurl = "git://m/x"',
         "mirrors[0].host: with source.host a mirror must name its host: this machine may be any laptop"),
        ("[app]", 'environment = "prod"\n[app]', "environment: unknown key; the file's name says the environment"),
        ("[app]", "top = 1\n[app]", "top: unknown key"),
        ("[app]", '"a\\u001b" = 1\n[app]', '"a\\x1b": unknown key'),
        (WEB, '[targets.groups."a b"]', 'targets.groups."a b": \'a b\' is no name'),
        (WEB, '[targets.groups.web-1]\nhosts = ["x"]\n[targets.groups.web]',
         "targets.groups.web.hosts[0]: web-1 is also the name of a group"),
        ("[ssh]", '[[mirrors]]\nhost = { name = "Mirror-1" }\npath = "/x"\n[ssh]',
         "mirrors[1].host: 'Mirror-1' is mirrors[0] already"),
        ("[ssh]", '[[mirrors]]\nurl = "/x"\npath = "/x"\n[[mirrors]]\nurl = "/y"\npath = "/x"\n[ssh]',
         "mirrors[2].path: '/x' is mirrors[1] already"),
    ],
)  # fmt: skip
def test_a_mistake_of_shape_is_one_problem_in_plain_words(old: str, new: str, problem: str) -> None:
    found = problems(SMALL.replace(old, new))
    assert len(found) == 1, found
    assert found[0].startswith(problem)


def test_a_host_in_two_groups_is_refused_and_the_names_are_folded() -> None:
    assert problems(SMALL + '[targets.groups.us]\nhosts = ["web-[2-9]"]\n') == (
        "targets.groups.us.hosts[0]: duplicate host web-[2-3], already in targets.groups.web.hosts[0]",
    )


@pytest.mark.parametrize("environment", ["Prod", "", "-x", "a/b", "prod\n"])
def test_an_environment_with_another_sort_of_name_is_refused(environment: str) -> None:
    with pytest.raises(ConfigError, match="is no environment"):
        parse(SMALL, environment, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = \nc = 1\n", r"line 2, column 5"),
        ("[a]\n[a]\n", r"line 2, column 3"),
        ("x = 1\x00", "line 1"),
        ("x = " + "[" * 5000, "nested too deeply"),
        ("x = " + "9" * 5000, "not valid TOML"),
    ],
)
def test_a_mistake_in_the_toml_is_told_with_its_line(text: str, message: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("not valid TOML: ")
    assert re.search(message, problem)
