"""What is refused before any host is asked: a clear message, its exit code, and nothing done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab_operator import Operator, Run, small_fleet, small_site
from real_site import Site

from tasks.remote.lab import Lab

FIVE = """
[app]
name = "a b"
[source]
path = "srv/www"
[[mirrors]]
host = "mirror-1"
path = "/srv/git/www.git"
[targets]
deploy_to = "/srv/app"
kep = 5
fail_limit = "200%"
[targets.groups.web]
hosts = ["-oProxyCommand=touch /tmp/executed"]
zone = "nowhere"
"""
BARE_ID = "20261122T101500Z-0042-1a2b3c4"


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start three targets, which are enough here."""
    with Lab(tmp_path_factory.mktemp("lab"), targets=3) as machines:
        yield machines


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> tuple[Operator, Site]:
    """Deploy one release to three hosts; the tests that share them change nothing, which each of them asserts."""
    operator, site = small_fleet(lab)
    operator.deploy()
    return operator, site


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("deploy", "--ref=--upload-pack=x"), ("--upload-pack=x", "ref")),
        (("deploy", "--ref", "--upload-pack=touch /tmp/executed"), ("--upload-pack",)),
        (("deploy", "--ref", "main:refs/heads/x"), ("main:refs/heads/x",)),
        (("deploy", "--ref", "main", "--snapshot"), ("--ref", "--snapshot")),
        (("deploy", "--only", "web-99"), ("--only", "web-99")),
        (("deploy", "--only", "web-01,!web-01"), ("--only", "selects no host")),
        (("deploy", "--only="), ("--only", "selects no host")),
        (("deploy", "--only", "-oProxyCommand=touch /tmp/executed"), ("-oProxyCommand",)),
        (("deploy", "--fail-limit", "some"), ("--fail-limit", "some", "2%")),
        (("deploy", "--fail-limit=-1"), ("--fail-limit", "-1")),
        (("deploy", "--fail-limit", "101%"), ("--fail-limit", "101%")),
        (("deploy", "--transport", "pigeon"), ("--transport", "pigeon", "git")),
        (("rollback",), ("nothing to roll back to",)),
        (("rollback", "--to", BARE_ID), (BARE_ID, "no target has")),
        (("rollback", "--to", "../../etc"), ("../../etc",)),
        (("rollback", "--to", "main"), ("main",)),
        (("status", "--env", "prdo"), ("prdo",)),
        (("status", "--env", "../prod"), ("../prod",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_line_that_cannot_be_is_refused_with_the_reason(
    fleet: tuple[Operator, Site], argv: tuple[str, ...], words: tuple[str, ...]
) -> None:
    operator, _ = fleet
    before = operator.live()
    run = operator.fab(*argv, code=2)
    assert all(word in run.said for word in words), run.said
    assert run.out == ""
    assert operator.live() == before
    assert not operator.lab.path("server-1", "/tmp/executed").exists()


def test_an_unknown_environment_is_told_the_known_ones(fleet: tuple[Operator, Site]) -> None:
    operator, _ = fleet
    assert operator.environment in operator.fab("deploy", "--env", "prdo", code=2).err


@pytest.mark.parametrize("program", ["fabric", "invoke"])
def test_what_the_parser_itself_refuses_is_1(fleet: tuple[Operator, Site], program: str) -> None:
    assert "--bogus" in fleet[0].fab("deploy", "--bogus", code=1, program=program).said


def test_hosts_on_fabs_own_command_line_are_refused_with_the_reason(fleet: tuple[Operator, Site]) -> None:
    operator, _ = fleet
    run = operator.fab("-H", "web-01,web-02", "deploy", code=2)
    assert "-H" in run.said
    assert "--only" in run.said


def test_five_mistakes_in_a_configuration_are_told_in_one_go(lab: Lab) -> None:
    operator = Operator(lab, "five")
    operator.write(FIVE)
    run = operator.fab("deploy", code=2)
    for words in ("app.name", "source.path", "targets.kep", "did you mean 'keep'", "targets.fail_limit"):
        assert words in run.said, run.err
    for words in ("targets.groups.web.hosts", "-oProxyCommand", "targets.groups.web.zone"):
        assert words in run.said, run.err
    assert not lab.path("server-1", "/tmp/executed").exists()
    as_json = operator.deploy(code=2)
    assert "app.name" in as_json.json["error"]


def test_a_configuration_that_is_no_toml_is_named_with_the_line(lab: Lab) -> None:
    operator = Operator(lab, "broken")
    operator.write("[app\nname = 1\n")
    run = operator.fab("deploy", code=2)
    assert "broken.toml" in run.said
    assert "line 1" in run.said


@pytest.mark.parametrize(
    ("ref", "words"),
    [("no-such-branch", ("no-such-branch",)), ("mian", ("mian", "did you mean", "main")), ("f" * 40, ("f" * 40,))],
)
def test_a_ref_that_is_not_there_is_refused(fleet: tuple[Operator, Site], ref: str, words: tuple[str, ...]) -> None:
    run = fleet[0].fab("deploy", "--ref", ref, code=3)
    assert all(word in run.said for word in words), run.said


def test_an_empty_repository_is_refused(fleet: tuple[Operator, Site], lab: Lab) -> None:
    site = Site(lab.path("server-1", "/srv/empty"))
    site.folder.mkdir()
    site.git("init", "--quiet", "--initial-branch=main")
    operator = elsewhere(lab, "/srv/empty")
    run = operator.fab("deploy", code=3)
    assert "/srv/empty" in run.said
    assert "no commit" in run.said
    source, *mirrors = operator.fab("check", "--json", code=6).json["here"][:3]
    assert (source["what"], source["ok"]) == ("source", False)
    assert [(each["what"], each["ok"]) for each in mirrors] == [("mirror mirror-1", True), ("mirror mirror-2", True)]


def test_a_detached_head_is_refused_with_both_ways_out(lab: Lab) -> None:
    operator, site = small_fleet(lab)
    site.change({"index.html": b"second\n"})
    site.git("checkout", "--quiet", "--detach", site.commits[0])
    run = operator.fab("deploy", code=3)
    assert "--ref HEAD" in run.said
    assert "--ref main" in run.said
    operator.deploy("--ref", "HEAD")
    operator.assert_serves(site.files_at(site.commits[0]))
    operator.deploy("--ref", "main")
    operator.assert_serves(site.files_at(site.commits[1]))


def test_a_dirty_tree_is_refused_with_its_files(lab: Lab) -> None:
    operator, site = small_fleet(lab)
    (site.folder / "index.html").write_text("changed\n")
    (site.folder / "new\nfile").write_text("untracked\n")
    run = operator.fab("deploy", code=3)
    assert "index.html" in run.said
    assert "new\\nfile" in run.said
    assert "--snapshot" in run.said
    assert set(operator.live().values()) == {None}


@pytest.mark.parametrize(("subdir", "words"), [("missing", "missing"), ("index.html", "index.html")])
def test_a_subdir_that_is_none_is_refused(fleet: tuple[Operator, Site], lab: Lab, subdir: str, words: str) -> None:
    operator = elsewhere(lab, fleet[0].folder, source={"subdir": subdir})
    assert words in operator.fab("deploy", code=3).said


def test_submodules_are_refused_by_name(lab: Lab) -> None:
    site = small_site(lab, "/srv/with-module")
    site.git("update-index", "--add", "--cacheinfo", f"160000,{site.commits[0]},vendor/module")
    site.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "module")
    run = elsewhere(lab, "/srv/with-module").fab("deploy", code=3)
    assert "submodules" in run.said
    assert "vendor/module" in run.said


def test_without_mirrors_there_is_no_release(fleet: tuple[Operator, Site], lab: Lab) -> None:
    operator = elsewhere(lab, fleet[0].folder)
    operator.mirror_path = "/srv/git/nowhere.git"
    operator.configure(groups={"eu": {"hosts": ["web-01"]}})
    run = operator.deploy("--ref", "main", code=3)
    assert "/srv/git/nowhere.git" in run.json["error"]
    assert "fab setup" in run.json["error"]
    assert_no_release(fleet[1], run)


def assert_no_release(site: Site, run: Run) -> None:
    """Assert that there is but the one tag of the first deploy."""
    assert len(site.git("tag", "--list", "release/*").split()) == 1, run.said


def elsewhere(lab: Lab, folder: str, **tables: dict[str, str]) -> Operator:
    """Return the operator of another environment on one of the hosts."""
    return Operator(lab, "elsewhere", folder, groups={"eu": {"hosts": ["web-01"]}}, **tables)
