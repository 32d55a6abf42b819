"""Adopting on one host, with the real agent: docroots, other tools' layouts, what is refused, every way to be cut."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agent_host import Agent, Host, Made, Refused, alive, tree_of
from needs import mount

from tasks.agent import adopt as adopting
from tasks.agent.place import Place
from tasks.agent.problem import Problem
from tasks.agent.wire import Wire

ID = "20261122T101500Z-0000-1a2b3c4"
OTHER = "20261123T101500Z-0000-1a2b3c5"
AGENT = Path(__file__).resolve().parents[2] / "tasks" / "agent"
POINTS = sorted(re.findall(r'failpoint\("(agent\.adopt\.[a-z]+)"\)', (AGENT / "adopt.py").read_text("utf-8")))
IN_THE_GAP = ("agent.adopt.gap", "agent.adopt.back")
GIVING_BACK = ("agent.adopt.giving", "agent.adopt.detour", "agent.adopt.given")
NOBODY = 65534


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "srv").mkdir()
    return Host(tmp_path, link=tmp_path / "srv" / "www")


@pytest.fixture
def docroot(host: Host) -> Path:
    """Make a docroot as people have them: odd modes, owners and names, an empty directory, a file with two names."""
    host.link.mkdir(mode=0o750)
    fill(host.link)
    return host.link


def fill(folder: Path) -> None:
    (folder / "index.html").write_text("mine\n")
    (folder / "empty").mkdir(mode=0o2775)
    (folder / "uploads").mkdir()
    (folder / "uploads" / "a b\n.jpg").write_bytes(b"\0jpg")
    (folder / "uploads" / "a b\n.jpg").chmod(0o600)
    (folder / "out").symlink_to("/etc/passwd")
    os.link(folder / "index.html", folder / "home.html")
    if os.geteuid() == 0:
        os.chown(folder / "uploads", NOBODY, NOBODY)


def everything(root: Path) -> dict[str, tuple[int, ...]]:
    """Return what must not change of a tree, by path: inode, owner, group, mode, times of its content."""
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        about = path.lstat()
        found[str(path.relative_to(root))] = (
            about.st_ino, about.st_uid, about.st_gid, about.st_mode, about.st_nlink, about.st_mtime_ns,
        )  # fmt: skip
    return found


def look(agent: Agent, *, undo: bool = False, linked: tuple[str, ...] = ()) -> dict[str, Any]:
    return agent.ask("adoption", undo=undo, linked_dirs=list(linked), linked_files=[])


def adopt(agent: Agent, identity: str = ID, *, gap: bool = False) -> list[str]:
    changed: list[str] = agent.ask("adopt", id=identity, by="op", reason="", gap=gap)["changed"]
    return changed


def give_back(agent: Agent, *, gap: bool = False) -> list[str]:
    changed: list[str] = agent.ask("give_back", gap=gap)["changed"]
    return changed


@contextmanager
def leaving(host: Host, **opening: object) -> Iterator[Agent]:
    """Give a session that ends as that of a deployer who is through."""
    with host.session(**opening) as agent:
        yield agent
        agent.leave()


def deploy(host: Host, turn: int, dirs: tuple[str, ...] = (), *, undo: bool = False) -> Made:
    """Carry a release through the session that follows an adoption; with ``undo``, as far as the flip and back."""
    made = host.release({b"index.html": b"new\n"})
    with leaving(host) as agent:
        agent.stage(made, dirs=dirs)
        agent.ask("arm", id=made.id)
        agent.flip(made, turn, expect=ID)
        agent.ask("revert" if undo else "confirm", decision=f"d{turn}")
        if not undo:
            agent.ask("prune", keep=0, spare=True)
    return made


@contextmanager
def reading(path: Path) -> Iterator[list[str]]:
    """Read a file without pause meanwhile; give the list of readings that failed, one line each."""
    missed: list[str] = []
    reads, over = [0], threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                if path.read_bytes() != b"mine\n":
                    missed.append("other content")
            except OSError as error:
                missed.append(str(error))
            reads[0] += 1

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield missed
    finally:
        over.set()
        thread.join()
    assert reads[0] > 10


# A docroot


def test_a_docroot_becomes_the_live_release_without_being_copied_and_goes_back(host: Host, docroot: Path) -> None:
    before = everything(docroot)
    with leaving(host) as agent, reading(docroot / "index.html") as missed:
        assert adopt(agent) == [f"adopted the directory {docroot} as release {ID}"]
        release = host.app / "releases" / ID
        assert (docroot.is_symlink(), docroot.readlink()) == (True, release)
        assert everything(release) == before
        assert give_back(agent) == [f"gave back the directory {docroot}"]
    assert everything(docroot) == before
    assert missed == []
    assert not release.is_symlink()
    assert (os.listdir(host.app / "releases"), os.listdir(host.own / "releases")) == ([], [])
    assert (host.state()["history"], host.leftovers()) == ([], [])


@pytest.mark.parametrize("inside", [False, True])
def test_who_read_the_link_before_an_exchange_finds_the_files_after_it(
    tmp_path: Path, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "srv").mkdir()
    link = tmp_path / "app" / "current" if inside else tmp_path / "srv" / "www"
    place = Place(str(tmp_path / "app"), str(link), "prod")
    place.make()
    link.mkdir()
    fill(link)
    texts, found, exchange = [], [], adopting.exchange

    def see(one: str, other: str) -> None:
        texts.extend([os.readlink(link)] if link.is_symlink() and other == str(link) else [])
        exchange(one, other)

    def follow(_: float = 0) -> None:
        found.extend((link.parent / text / "index.html").read_text() for text in texts)

    adopting.adopt(Wire(), place, {"id": ID, "by": "op", "reason": "", "gap": False})
    texts.append(os.readlink(link))
    monkeypatch.setattr(adopting, "exchange", see)
    monkeypatch.setattr("tasks.agent.adopt.time.sleep", follow)
    adopting.give_back(Wire(), place, {"gap": False})
    assert (len(set(texts)), found) == (2, ["mine\n"] * 2)
    assert os.listdir(place.releases) == []
    assert [name for name in os.listdir(link.parent) if "skein-" in name] == []


def test_an_adopted_docroot_is_shown_as_the_live_release(host: Host, docroot: Path) -> None:
    with leaving(host) as agent:
        adopt(agent)
        found = agent.ask("status")
    assert (found["current"], found["stack"], found["live_turn"], found["turn"]) == (ID, [ID], 0, 0)
    assert [(record["kind"], record["id"], record["was"]) for record in found["history"]] == [("adopt", ID, None)]
    assert (found["adopted"], found["releases"]) == ({ID: f"the directory {docroot}"}, {})
    assert (found["problems"], found["drift"]) == ([], [])


def test_the_first_release_after_it_goes_live_and_back_and_prune_never_takes_what_was_adopted(
    host: Host, docroot: Path
) -> None:
    before = everything(docroot)
    with leaving(host) as agent:
        adopt(agent)
    for turn in range(2, 7):
        host.deploy(host.release({b"index.html": b"%d" % turn}), turn, keep=1)
    assert ID in os.listdir(host.app / "releases")
    with leaving(host) as agent:
        assert agent.ask("stage", id=ID) == {"made": False, "files": 0}
        agent.ask("arm", id=ID)
        fields = {"id": ID, "expect": host.current(), "decision": "d7", "kind": "rollback", "by": "op", "reason": ""}
        agent.ask("flip", turn=7, **fields)
        agent.ask("confirm", decision="d7")
        agent.ask("prune", keep=0, spare=True)
        assert agent.ask("probe")["current"] == ID
    assert everything(docroot.resolve()) == before


def test_one_that_an_operator_removed_is_forgotten(host: Host, docroot: Path) -> None:
    with leaving(host) as agent:
        adopt(agent)
    host.deploy(host.release({b"a": b"1"}), 2)
    subprocess.run(["rm", "-r", host.app / "releases" / ID], check=True)
    host.deploy(host.release({b"a": b"2"}), 3)
    with leaving(host) as agent:
        assert agent.ask("probe")["adopted"] == {}
        with pytest.raises(Refused, match="not-adopted"):
            agent.ask("stage", id=ID)


def test_a_flip_away_from_it_that_is_undone_shows_it_again(host: Host, docroot: Path) -> None:
    with leaving(host) as agent:
        adopt(agent)
    deploy(host, 2, undo=True)
    assert (docroot / "index.html").read_text() == "mine\n"


def test_what_a_first_deploy_could_surprise_with_is_told_before(host: Host, docroot: Path) -> None:
    (docroot / ".git").mkdir()
    (host.app / "shared" / "kept").mkdir(parents=True)
    (docroot / "kept").mkdir()
    with leaving(host) as agent:
        found = look(agent, linked=("uploads", "kept", "absent", ".env"))
    assert found["told"] == f"would adopt the directory {docroot}"
    assert [note.split(":")[0] for note in found["notes"]] == ["uploads", "it is a git work tree"]


# Other tools' layouts

LAYOUTS = {
    "Capistrano": ("20250131101500", "{releases}/20250131101500", ("repo", "revisions.log")),
    "Deployer": ("7", "releases/7", (".dep",)),
    "Ansistrano": ("20250131101500Z", "./releases/20250131101500Z", ("repo",)),
}


def lay_out(tmp_path: Path, tool: str) -> Host:
    """Make what the tool leaves on a host: two releases, the newer live, and a shared directory that it links to."""
    host = Host(tmp_path)
    name, text, besides = LAYOUTS[tool]
    for release in ("1", name):
        (host.app / "releases" / release).mkdir(parents=True)
        (host.app / "releases" / release / "index.html").write_text("mine\n")
        (host.app / "releases" / release / "storage").symlink_to("../../shared/storage")
    (host.app / "shared" / "storage").mkdir(parents=True)
    (host.app / "shared" / "storage" / "upload").write_text("kept\n")
    for each in besides:
        (host.app / each).mkdir()
    host.link.symlink_to(text.format(releases=host.app / "releases"))
    return host


def theirs(host: Host) -> dict[str, tuple[int, ...]]:
    """Return everything of the other tool's, and nothing of ours; directories in which both work by their names."""
    found = {path: about for path, about in everything(host.app).items() if not path.startswith(".skein")}
    return {path: about for path, about in found.items() if path not in (".", "releases", "current")}


@pytest.mark.parametrize("tool", LAYOUTS)
def test_another_tool_s_layout_is_taken_over_and_given_back_without_moving_a_byte(tmp_path: Path, tool: str) -> None:
    host = lay_out(tmp_path, tool)
    link, before = host.link.lstat(), theirs(host)
    text, name = os.readlink(host.link), LAYOUTS[tool][0]
    with leaving(host) as agent, reading(host.link / "index.html") as missed:
        found = look(agent)
        assert found["told"] == f"would adopt {tool}'s release {name}"
        assert any("1 more in" in note for note in found["notes"])
        assert adopt(agent) == [f"adopted {tool}'s release {name} as release {ID}"]
        assert adopt(agent, OTHER) == []
        probe = agent.ask("status")
        assert (probe["current"], probe["stack"], probe["problems"], probe["drift"]) == (ID, [ID], [], [])
        assert give_back(agent) == [f"gave back {tool}'s release {name}"]
    assert (host.link.lstat().st_ino, os.readlink(host.link), missed) == (link.st_ino, text, [])
    assert theirs(host) == before
    assert host.state()["history"] == []


@pytest.mark.parametrize("tool", LAYOUTS)
def test_a_deploy_after_it_uses_shared_as_it_is_and_a_rollback_lays_the_tool_s_own_link_again(
    tmp_path: Path, tool: str
) -> None:
    host = lay_out(tmp_path, tool)
    before, text = theirs(host), os.readlink(host.link)
    with leaving(host) as agent:
        adopt(agent)
    made = deploy(host, 2, dirs=("storage",))
    with leaving(host) as agent:
        assert (host.link / "storage" / "upload").read_text() == "kept\n"
        with pytest.raises(Refused, match=rf"moved-on: .* fab rollback --to {ID} first"):
            give_back(agent)
        agent.ask("stage", id=ID)
        agent.ask("arm", id=ID)
        agent.flip(made, 3, id=ID, expect=made.id, kind="rollback")
        agent.ask("confirm", decision="d3")
        assert os.readlink(host.link) == text
        assert agent.ask("probe")["stack"] == [ID]
        assert give_back(agent)
    assert os.readlink(host.link) == text
    assert {path: about for path, about in theirs(host).items() if made.id not in path} == before


def test_a_failed_first_deploy_puts_the_tool_s_own_link_back_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    host = lay_out(tmp_path, "Capistrano")
    text = os.readlink(host.link)
    with leaving(host) as agent:
        adopt(agent)
    deploy(host, 2, undo=True)
    assert os.readlink(host.link) == text
    with host.session() as agent:
        agent.ask("arm", id=ID)
        agent.kill()
    assert host.leftovers()  # the link that was laid for what was adopted
    with leaving(host) as agent:
        agent.ask("settle")
    assert host.leftovers() == []


def test_a_tool_that_deployed_once_more_is_adopted_once_more(tmp_path: Path) -> None:
    host = lay_out(tmp_path, "Capistrano")
    with leaving(host) as agent:
        adopt(agent)
    deploy(host, 2)
    host.link.unlink()
    host.link.symlink_to(host.app / "releases" / "1")
    with leaving(host) as agent:
        assert look(agent)["adopted"] == [ID]
        with pytest.raises(Refused, match="bad-request"):
            adopt(agent, ID)
        assert adopt(agent, OTHER)
        assert agent.ask("probe")["current"] == OTHER


def test_a_link_that_was_configured_elsewhere_since_leads_to_the_tool_s_release_all_the_same(tmp_path: Path) -> None:
    host = lay_out(tmp_path, "Deployer")
    with leaving(host) as agent:
        adopt(agent)
    place = Place(str(host.app), str(tmp_path / "www"), "prod")
    assert place.link_text(ID) == str(host.app / "releases" / "7")


# What is calm, and what is refused


def test_adopting_twice_and_giving_back_twice_change_nothing(host: Host, docroot: Path) -> None:
    with leaving(host) as agent:
        adopt(agent)
        before = (tree_of(host.app), host.link.lstat().st_ino)
        assert look(agent)["told"] == f"nothing to adopt: the directory {docroot} is adopted as {ID}"
        assert adopt(agent, OTHER) == []
        assert (tree_of(host.app), host.link.lstat().st_ino) == before
        give_back(agent)
        before = (tree_of(host.app), host.link.lstat().st_ino)
        assert look(agent, undo=True)["told"] == "nothing to give back: nothing is adopted here"
        assert give_back(agent) == []
        assert (tree_of(host.app), host.link.lstat().st_ino) == before
        assert adopt(agent, OTHER)


def test_where_nothing_stands_there_is_nothing_to_adopt(host: Host) -> None:
    with leaving(host) as agent:
        assert look(agent)["told"] == f"nothing to adopt: there is nothing at {host.link}; fab deploy makes it"
        assert adopt(agent) == []
    made = host.release({b"a": b"1"})
    host.deploy(made, 1)
    with leaving(host) as agent:
        assert look(agent)["told"] == f"nothing to adopt: {made.id} is live"
        assert (adopt(agent), give_back(agent)) == ([], [])


def test_a_look_leaves_nothing_on_the_host(host: Host, docroot: Path) -> None:
    before = tree_of(host.root)
    with leaving(host) as agent:
        look(agent)
        look(agent, undo=True)
    assert tree_of(host.root) == before


def refusal(host: Host) -> str:
    """Return why neither a look nor the work itself will have it, having seen that nothing changed."""
    before = (host.link.lstat().st_ino, host.link.is_symlink())
    codes = []
    for verb in ("adoption", "adopt"):
        with leaving(host) as agent, pytest.raises(Refused) as refused:
            agent.ask(verb, undo=False, linked_dirs=[], linked_files=[], id=ID, by="op", reason="", gap=False)
        codes.append(refused.value.code)
    assert codes[0] == codes[1]
    assert before == (host.link.lstat().st_ino, host.link.is_symlink())
    return codes[0]


@pytest.mark.parametrize("text", ["/etc", "gone", "releases", "releases/7/sub", "releases/absent", "x"])
def test_a_link_that_is_not_understood_is_refused(tmp_path: Path, text: str) -> None:
    host = lay_out(tmp_path, "Deployer")
    (host.app / "releases" / "7" / "sub").mkdir()
    (host.app / "x").symlink_to("releases/7")
    host.link.unlink()
    host.link.symlink_to(text)
    assert refusal(host) == "foreign-link"


def test_a_file_at_the_link_s_path_is_refused(host: Host) -> None:
    host.link.write_text("mine")
    assert refusal(host) == "not-a-link"


def test_what_holds_deploy_to_or_another_deployment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    assert refusal(Host(tmp_path, link=tmp_path / "app")) == "holds-deploy-to"
    (tmp_path / "other" / ".skein").mkdir(parents=True)
    host = Host(tmp_path / "b", link=tmp_path / "other")
    assert refusal(host) == "holds-deploy-to"
    (tmp_path / "really" / "c").mkdir(parents=True)
    (tmp_path / "c").symlink_to("really/c")
    assert refusal(Host(tmp_path / "c", link=tmp_path / "really")) == "holds-deploy-to"


@contextmanager
def mounted(path: Path, *options: str) -> Iterator[None]:
    """Have a file system at a path."""
    mount(path, *options)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("inside", ["", "uploads"])
@pytest.mark.parametrize("bind", [False, True])
def test_a_mount_point_and_what_holds_one_are_refused(
    root: None, host: Host, docroot: Path, inside: str, bind: bool
) -> None:
    options = ("--bind", str(docroot / "empty")) if bind else ()
    with mounted(docroot / inside, *options):
        assert refusal(host) == "mount-point"


def test_two_file_systems_are_refused_also_where_they_are_two_mounts_of_one(
    root: None, host: Host, docroot: Path
) -> None:
    host.app.mkdir()
    with mounted(host.app):
        assert refusal(host) == "two-disks"
    (host.root / "elsewhere").mkdir()
    with mounted(host.app, "--bind", str(host.root / "elsewhere")), leaving(host) as agent:
        assert look(agent)["due"]
        with pytest.raises(Refused, match="two-disks"):
            adopt(agent)
        agent.leave()
        assert docroot.is_dir()
        assert not docroot.is_symlink()
        assert host.leftovers() == []
        assert list((host.app / "releases").iterdir()) == list((host.own / "releases").iterdir()) == []


@pytest.mark.parametrize("which", ["parent", "docroot", "sticky", "deploy_to"])
def test_what_this_user_may_not_move_is_refused_with_the_path(
    host: Host, docroot: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = {"docroot": docroot, "deploy_to": host.app}.get(which, docroot.parent)
    host.app.mkdir()
    for each in (host.app, docroot.parent, docroot):
        each.chmod(0o755 if each == path else 0o777)
    if which == "sticky":
        path.chmod(0o1777)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    monkeypatch.setattr(os, "access", lambda each, mode: os.stat(each).st_mode & mode == mode)
    with pytest.raises(Problem, match=f"{path} may not be written by this user"):
        adopting.adopt(Wire(), Place(str(host.app), str(docroot), "prod"), {"id": ID})


# Cut off


def killed(host: Host, point: str, action: str, *, undo: bool) -> str:
    """Ask for one half of the story with a failpoint armed; return how it ended."""
    with host.session(failpoint=f"{point}:1:{action}") as agent:
        try:
            give_back(agent) if undo else adopt(agent)
        except EOFError:
            assert agent.wait() in (-signal.SIGKILL, 128 + signal.SIGKILL)
            assert not alive(agent.pid)
            return "killed"
        except Refused as refused:
            agent.leave()
            return refused.code
        agent.leave()
        return "not passed"


@pytest.mark.parametrize("kind", ["docroot", *LAYOUTS])
@pytest.mark.parametrize("action", ["kill", "error"])
@pytest.mark.parametrize("point", [point for point in POINTS if point not in IN_THE_GAP])
def test_stopped_anywhere_the_same_is_served_and_the_next_run_completes_or_undoes_it(
    tmp_path: Path, point: str, action: str, kind: str
) -> None:
    (tmp_path / "srv").mkdir()
    host = Host(tmp_path, link=tmp_path / "srv" / "www") if kind == "docroot" else lay_out(tmp_path, kind)
    if kind == "docroot":
        host.link.mkdir()
        fill(host.link)
    before, text = everything(host.link.resolve()), os.readlink(host.link) if host.link.is_symlink() else None
    ended = {"kill": "killed", "error": "os-error"}[action]
    undo = point in GIVING_BACK
    if undo:
        with leaving(host) as agent:
            adopt(agent)
    outcome = killed(host, point, action, undo=undo)
    moves = point in ("agent.adopt.laid", "agent.adopt.detour")
    assert outcome == ("not passed" if moves and kind != "docroot" else ended)
    assert everything(host.link.resolve()) == before
    with leaving(host) as agent:
        adopt(agent, OTHER)
        found = agent.ask("settle")
        assert (found["current"] in (ID, OTHER), found["stack"]) == (True, [found["current"]])
        assert list(found["adopted"]) == [found["current"]]
        assert everything(host.link.resolve()) == before
        give_back(agent)
    assert everything(host.link.resolve()) == before
    assert (os.readlink(host.link) if host.link.is_symlink() else None) == text
    assert (host.state()["history"], host.state()["pending"], host.leftovers()) == ([], None, [])
    assert os.listdir(host.own / "releases") == []
    assert sorted(os.listdir(host.app / "releases")) == ([] if kind == "docroot" else sorted(["1", LAYOUTS[kind][0]]))


# Where nothing can be exchanged


@pytest.fixture
def place(host: Host, docroot: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Give a host on which names cannot change places in one step."""

    def cannot(one: str, other: str) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), other)

    monkeypatch.setattr(adopting, "exchange", cannot)
    found = Place(str(host.app), str(docroot), "prod")
    found.make()
    return found


def order(**fields: object) -> dict[str, Any]:
    return {"id": ID, "by": "op", "reason": "", "gap": True, **fields}


def test_without_an_exchange_it_is_refused_unless_a_gap_is_allowed(place: Place, docroot: Path) -> None:
    before = everything(docroot)
    with pytest.raises(Problem, match="--allow-gap"):
        adopting.adopt(Wire(), place, order(gap=False))
    assert everything(docroot) == before
    adopting.adopt(Wire(), place, order())
    assert everything(Path(place.release(ID))) == before
    assert place.current() == ID
    with pytest.raises(Problem, match="--allow-gap"):
        adopting.give_back(Wire(), place, {"gap": False})
    assert place.current() == ID
    adopting.give_back(Wire(), place, {"gap": True})
    assert everything(docroot) == before


@pytest.mark.parametrize("way", ["adopt", "give back"])
@pytest.mark.parametrize("point", IN_THE_GAP)
def test_cut_off_in_the_gap_it_is_completed_or_undone(
    place: Place, host: Host, docroot: Path, point: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(docroot)
    if point == "agent.adopt.back":
        adopting.adopt(Wire(), place, order())

    def cut(name: str) -> None:
        if name == point:
            raise SystemExit

    monkeypatch.setattr(adopting, "failpoint", cut)
    with pytest.raises(SystemExit):
        adopting.adopt(Wire(), place, order()) if point == "agent.adopt.gap" else adopting.give_back(
            Wire(), place, {"gap": True}
        )
    assert not os.path.lexists(docroot)
    with leaving(host) as agent:
        assert look(agent)["told"] == f"would adopt the directory {docroot}"
        assert look(agent, undo=True)["told"] == f"would give back the directory {docroot}"
        assert adopt(agent, OTHER) if way == "adopt" else give_back(agent)
        if way == "adopt":
            assert agent.ask("probe")["stack"] == [ID]
    assert everything(docroot.resolve()) == before
    assert host.leftovers() == []


def test_a_python_without_ctypes_cannot_exchange_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ctypes", None)
    with pytest.raises(OSError, match="not implemented"):
        adopting.exchange(str(tmp_path / "a"), str(tmp_path / "b"))


def test_a_restricted_key_may_look_and_not_adopt() -> None:
    from tasks.agent.main import LOOKING, UNRESTRICTED, WORKING

    assert "adoption" in LOOKING
    assert {"adopt", "give_back"} <= set(UNRESTRICTED)
    assert not {"adopt", "give_back"} & {*LOOKING, *WORKING}
