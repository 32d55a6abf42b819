"""Several operators at one fleet: who goes first, freezes, dead holders, a hub that is lost, a ledger cut short."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from lab_operator import FOLDER, Operator, Run, small_site, somebody
from real_site import Site

from tasks.remote.lab import Lab, wait_until

HUB, OTHER = "mirror-1", "mirror-2"
REF = "refs/skein/ledger/prod"
KEYS = "/home/deploy/.ssh/authorized_keys"
CONTENDERS = 6
TABLES: dict[str, dict[str, Any]] = {"groups": {"web": {"hosts": ["web-[01-02]"]}}, "ssh": {"connect_timeout": 3}}


ANN, BOB = somebody("ann"), somebody("bob")
STAGED = {"SKEIN_FAILPOINT": "deploy.staged:1:pause"}


@pytest.fixture(scope="module")
def lab(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), targets=2, laptop=True) as machines:
        yield machines


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    return small_site(lab, "/srv/www")


@pytest.fixture(scope="module")
def operator(lab: Lab, site: Site) -> Operator:
    found = Operator(lab, **TABLES)
    found.fab("setup")
    found.deploy(env=ANN)
    return found


def ledger(operator: Operator, env: Mapping[str, str] = ANN, *argv: str) -> list[dict[str, Any]]:
    """Return the records, oldest first."""
    records: list[dict[str, Any]] = operator.fab("log", "--json", "--limit", "999", *argv, env=env).json["records"]
    return records[::-1]


def stands_still(lab: Lab) -> list[int]:
    """Wait until a deployer stands still at its failpoint; return its pids."""
    stopped: list[int] = []

    def is_stopped(pid: int) -> bool:
        with contextlib.suppress(OSError):  # some are gone as soon as they are listed
            return "State:\tT" in Path(f"/proc/{pid}/status").read_text()
        return False

    def stands() -> bool:
        pids = [pid for pid, argv in lab.processes("server-1") if "python" in os.path.basename(argv[0])]
        stopped[:] = filter(is_stopped, pids)
        return bool(stopped)

    wait_until(stands, "the deployer is paused", 60)
    return stopped


def changed(site: Site) -> str:
    """Commit something new and return its text, by which a release is known again."""
    text = f"version {len(site.commits) + 1}\n"
    site.change({"index.html": text.encode()}, text)
    return text


def shown(operator: Operator) -> set[str]:
    return {(operator.path(host, "current") / "index.html").read_text() for host in operator.hosts}


def test_of_many_who_deploy_at_once_one_does_and_the_others_are_told_by_whom(operator: Operator, site: Site) -> None:
    before = len(ledger(operator))
    wanted = changed(site)
    operator.configure(**TABLES, targets={"after_flip": ["sleep", "8"]})  # who comes second must still find the first
    names = [f"op-{number}" for number in range(CONTENDERS)]
    started = [operator.start("deploy", "--json", env=somebody(name)) for name in names]
    runs = [operator.finish(each, 180) for each in started]
    operator.configure(**TABLES)
    winners = [run for run in runs if run.code == 0 and "live on all" in run.json["headline"]]
    assert len(winners) == 1, [run.said for run in runs]
    losers = [run for run in runs if run not in winners]
    for run in losers:
        assert run.code == 4 or "nothing to do" in run.said, run.said
    told = [run.json["error"] for run in losers if run.code == 4]
    assert told
    assert any("op-" in each and "since 20" in each and "fab unlock" in each for each in told), told
    assert [record["kind"] for record in ledger(operator)[before:]] == ["config", "deploy", "outcome"]
    assert shown(operator) == {wanted}


def test_a_freeze_refuses_all_until_it_is_ended(operator: Operator, site: Site) -> None:
    wanted = changed(site)
    operator.fab("lock", "--reason", "audit\n\x1b[2Jhere", env=ANN)
    for env in (ANN, BOB):
        told = operator.deploy(code=4, env=env).json["error"]
        assert "ann@" in told
        assert "audit\\n\\x1b[2Jhere" in told
    assert operator.rollback(code=4, env=BOB).code == 4
    assert "frozen by ann@" in operator.fab("status", program="invoke", env=BOB).said
    operator.fab("unlock", env=BOB)
    operator.deploy(env=BOB)
    assert shown(operator) == {wanted}


def test_a_holder_that_hangs_is_overtaken_and_has_no_effect_when_he_wakes(
    lab: Lab, operator: Operator, site: Site
) -> None:
    changed(site)
    hanging = operator.start("deploy", "--json", env={**ANN, **STAGED})
    paused = stands_still(lab)
    told = operator.deploy("--wait", "1", code=4, env=BOB).json["error"]
    assert "ann@" in told
    assert "--reason" in operator.fab("unlock", code=None, env=BOB).said
    operator.fab("unlock", "--reason", "ann's laptop is frozen", code=None, env=BOB)
    wanted = changed(site)
    run = operator.deploy("--wait", "30", env=BOB)
    assert shown(operator) == {wanted}
    for pid in paused:
        os.kill(pid, signal.SIGCONT)
    woken = operator.finish(hanging)
    assert woken.code in (3, 4, 5), woken.said
    assert shown(operator) == {wanted}
    assert ledger(operator)[-2]["release"] == run.release


def test_a_killed_holder_s_lock_is_gone_at_once(lab: Lab, operator: Operator, site: Site) -> None:
    wanted = changed(site)
    running = operator.start("deploy", "--json", env={**ANN, **STAGED})
    stands_still(lab)
    running.kill()
    operator.finish(running)
    began = time.monotonic()
    operator.deploy(env=BOB)
    assert time.monotonic() - began < 15
    assert shown(operator) == {wanted}


def on_laptop(lab: Lab, operator: Operator, *argv: str, code: int | None = 0) -> Run:
    """Run a command on another machine, which has the keys and the configuration of server-1, but not its files."""
    shutil.copytree(lab.path("server-1", FOLDER), lab.path("laptop", FOLDER), dirs_exist_ok=True)
    command, variables = operator._command(argv, BOB, "invoke")
    done = lab.run("laptop", command, env=variables, check=False, timeout=120)
    run = Run(done.returncode, done.stdout, done.stderr)
    assert code in (None, run.code), f"{' '.join(argv)} ended with {run.code}:\n{run.out}{run.err}"
    return run


def test_a_holder_whose_machine_is_gone_loses_the_lock_within_the_lease(
    lab: Lab, operator: Operator, site: Site
) -> None:
    changed(site)
    running = operator.start("deploy", "--json", env={**ANN, "SKEIN_FAILPOINT": "deploy.released:1:pause"})
    paused = stands_still(lab)
    lab.cut("server-1")
    try:
        began = time.monotonic()
        on_laptop(lab, operator, "lock", "--reason", "mine now", "--wait", "40")
        assert time.monotonic() - began < 25
    finally:
        lab.mend("server-1")
    for pid in paused:
        os.kill(pid, signal.SIGCONT)
    woken = operator.finish(running)
    assert woken.code in (3, 4, 5), woken.said
    assert ledger(operator)[-1]["kind"] == "freeze"
    on_laptop(lab, operator, "unlock")
    operator.deploy(env=ANN)


def test_a_laptop_that_reaches_one_mirror_alone_shows_what_server_1_shows(lab: Lab, operator: Operator) -> None:
    here = operator.fab("status", "--json", env=ANN, program="invoke").json
    lab.cut(HUB)
    for host in operator.hosts:
        lab.cut(host)
    try:
        began = time.monotonic()
        there = on_laptop(lab, operator, "status", "--json").json
        took_s = time.monotonic() - began
    finally:
        for machine in (HUB, *operator.hosts):
            lab.mend(machine)
    assert {key: there[key] for key in ("desired", "targets", "exit_code")} == {
        key: here[key] for key in ("desired", "targets", "exit_code")
    }
    assert there["ledger"]["from"] == OTHER
    assert took_s < 6, took_s  # two seconds on a machine that does nothing else


def test_without_the_hub_a_deploy_stops_and_a_rollback_goes_on_and_is_recorded_later(
    lab: Lab, operator: Operator, site: Site
) -> None:
    operator.deploy(env=ANN)
    before = shown(operator)
    wanted = changed(site)
    records = len(ledger(operator))
    lab.power_off(HUB)
    try:
        assert "out of reach" in operator.deploy(code=3, env=ANN).json["error"]
        assert shown(operator) == before
        run = operator.rollback("--reason", "hub is off", env=ANN)
        assert any("without the ledger" in note for note in run.json["notes"])
        offline = operator.fab("status", "--json", env=ANN, program="invoke").json
        assert (offline["desired"], offline["ledger"]["waiting"]) == (run.release, 2)
    finally:
        lab.power_on(HUB)
    assert len(ledger(operator, BOB)) == records
    operator.deploy(env=ANN)
    added = ledger(operator, BOB)[records:]
    assert [record["kind"] for record in added] == ["rollback", "outcome", "deploy", "outcome"]
    assert added[0]["reason"] == "hub is off"
    assert shown(operator) == {wanted}


def test_a_ledger_that_is_cut_short_on_the_hub_is_noticed_and_brought_back(
    lab: Lab, operator: Operator, site: Site
) -> None:
    head = operator.git(HUB, "rev-parse", REF)
    operator.git(HUB, "update-ref", REF, f"{REF}~3")
    wanted = changed(site)
    before = shown(operator)
    for env in (ANN, somebody("a stranger")):
        told = operator.deploy(code=3, env=env).json["error"]
        assert "truncated" in told
        assert "mirrors.sync" in told
    assert "truncated" in operator.fab("check", code=6, program="invoke", env=ANN).said
    assert "refs/skein/ledger/prod" in operator.fab("mirrors.check", code=6, env=ANN).said
    assert shown(operator) == before
    operator.fab("mirrors.sync", "--from", OTHER, env=ANN)
    assert operator.git(HUB, "rev-parse", REF) == head
    operator.deploy(env=ANN)
    assert shown(operator) == {wanted}


@pytest.mark.parametrize("machine_too", [False, True])
def test_a_hub_that_is_gone_comes_back_by_one_command(
    lab: Lab, operator: Operator, site: Site, machine_too: bool
) -> None:
    head, refs = operator.git(HUB, "rev-parse", REF), operator.refs(HUB)
    records = ledger(operator)
    if machine_too:
        operator.wipe([HUB])  # what the machine held of Skein's: its repository, and who may read it
        keys = lab.path(HUB, KEYS)
        keys.write_text("".join(line for line in keys.read_text().splitlines(keepends=True) if "skein:" not in line))
    else:
        shutil.rmtree(lab.path(HUB, operator.mirror_path))
    assert "no bare repository" in operator.deploy(code=3, env=ANN).json["error"]
    operator.fab("mirrors.sync", "--from", OTHER, env=ANN)
    assert (operator.git(HUB, "rev-parse", REF), operator.refs(HUB), ledger(operator)) == (head, refs, records)
    proved = [
        each for each in operator.fab("check", "--json", code=None, env=ANN).json["here"] if each["what"] == "ledger"
    ]
    assert [(each["ok"], "as 2 targets saw it" in each["message"]) for each in proved] == [(True, True)]
    wanted = changed(site)
    turn = records[-1]["turn"]
    operator.deploy(env=ANN)
    assert shown(operator) == {wanted}
    assert ledger(operator)[-1]["turn"] == turn + 1
    if machine_too:
        operator.fab("setup", env=ANN)
    assert operator.fab("check", program="invoke", env=ANN).code == 0


def test_a_stale_checkout_s_hosts_are_told_and_need_a_flag(operator: Operator, site: Site) -> None:
    operator.configure(groups={"web": {"hosts": ["web-01"]}}, ssh={"connect_timeout": 3})
    try:
        changed(site)
        assert "gone: web-02" in operator.deploy(code=2, env=BOB).json["error"]
        operator.deploy("--new-hosts", env=BOB)
        assert [record["kind"] for record in ledger(operator)[-3:]] == ["config", "deploy", "outcome"]
    finally:
        operator.configure(**TABLES)
