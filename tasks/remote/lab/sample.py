"""What a new lab has to play with: an environment for its operators and a small site in git on server-1."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ...core.hosts import fold
from . import spaces
from .machines import Lab

ENVIRONMENT = "lab"
FOLDER = f"{spaces.home('root')}/config"
SITE = "/srv/www"
ZONES = ("eu", "us")
PAGE = "<!doctype html>\n<title>Skein lab</title>\n<h1>Version {version}</h1>\n"
FILES = {"index.html": PAGE, "style.css": "h1 { color: navy }\n", "news/{version}.html": "<p>News {version}.</p>\n"}
COMMIT = """
set -e
cd "$1"
[ -d .git ] || git init --quiet --initial-branch=main
git add --all
git -c user.name=lab -c user.email=lab@server-1 -c commit.gpgsign=false commit --quiet --message "Version $2"
"""
HEAD = f"""# What `invoke lab.up` writes on the lab's server-1 and laptop, here for its default size.
# The names exist inside the lab alone: `invoke lab.run 'fab deploy'` runs a command there.

[app]
name = "www"

[source]
path = "{SITE}" # on server-1, where Skein runs
"""
MIRROR = """
[[mirrors]]
host = "{name}"
path = "/srv/git/www.git"
zone = "{zone}"
"""
TARGETS = """
[ssh]
user = "deploy"

[targets]
deploy_to = "/srv/app"
{rules}linked_dirs = ["uploads"]
"""
RULES = "keep = 5\n"
GROUP = """
[targets.groups.web-{zone}]
hosts = ["{hosts}"]
zone = "{zone}"
"""


def configuration(mirrors: Sequence[str], targets: Sequence[str], rules: str = RULES) -> str:
    """Return the environment: mirrors by turns in two zones, and the targets half and half.

    With one mirror or one target there is one zone.
    """
    zones = ZONES[: min(len(mirrors), len(targets))]
    first = (len(targets) + len(zones) - 1) // len(zones)
    parts = [MIRROR.format(name=name, zone=zones[at % len(zones)]) for at, name in enumerate(mirrors)]
    groups = [
        GROUP.format(zone=zone, hosts=fold(targets[at * first : (at + 1) * first])) for at, zone in enumerate(zones)
    ]
    return "".join([HEAD, *parts, TARGETS.format(rules=rules), *groups])


def variables() -> dict[str, str]:
    """Return the variables with which an operator's commands find Skein and the environment."""
    return {"PATH": f"{sys.prefix}/bin:{spaces.PATH}", "SKEIN_CONFIG": FOLDER, "SKEIN_ENV": ENVIRONMENT}


def lay_out(lab: Lab, rules: str = RULES) -> None:
    """Write the environment, with ``rules`` under [targets], for both operators and make two versions of the site."""
    for machine in lab.operators:
        folder = lab.path(machine, FOLDER)
        folder.mkdir(exist_ok=True)
        (folder / f"{ENVIRONMENT}.toml").write_text(configuration(lab.mirrors, lab.targets, rules), "utf-8")
    site = lab.path(lab.server, SITE)
    site.mkdir()
    for version in ("1", "2"):
        for name, text in FILES.items():
            path = site / name.format(version=version)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.replace("{version}", version), "utf-8")
        lab.run(lab.server, ["sh", "-c", COMMIT, "sh", SITE, version])
