"""The two programs of ours that git runs on a mirror: one guards what is pushed, one makes each pack only once.

Both are for sh(1), without anything of ours beside them: git runs them where nobody is logged in.
"""

from __future__ import annotations

import os

from .place import replace

UPDATE = """#!/bin/sh
# Skein's, version 1. `fab setup` writes it anew: changes do not last.
# Releases and their tags are made once and never moved; the ledger only grows; nothing else has a place here.
ref=$1 old=$2 new=$3
no() {
    echo "skein: $ref $1" >&2
    exit 1
}
made= gone=
case $old in *[!0]*) ;; *) made=yes ;; esac
case $new in *[!0]*) ;; *) gone=yes ;; esac
case $ref in
refs/tags/release/?* | refs/skein/releases/?*)
    [ -z "$gone" ] || no "is a release and no push deletes it: mirrors.sync --keep retires old ones"
    [ -n "$made" ] || no "is a release and is never moved"
    ;;
refs/skein/ledger/?*)
    [ -z "$gone" ] || no "is a ledger and is never deleted"
    [ -n "$made" ] || git merge-base --is-ancestor "$old" "$new" || no "is a ledger and would lose records"
    ;;
refs/skein/?*) ;;
*) no "has no place on a mirror: only refs/tags/release/ and refs/skein/ have" ;;
esac
"""
PACKS = "skein-packs"
PACKS_MOST, WAIT_S = 16, 20
PACK_OBJECTS = f"""#!/bin/sh
# Skein's, version 1. `fab setup` writes it anew: changes do not last.
# Targets that have the same ask for the same: the first has the pack made, the others wait for that and get it too.
# What it is called is a hash of the words and the input, which say all that a pack depends on. Kept for an hour.
umask 077
asked=$(cat)
say() {{ printf '%s\\n' "$asked"; }}
name=$( (printf '%s\\n' "$@"; say) | sha256sum | cut -c 1-64)
pack={PACKS}/$name
mkdir -p {PACKS} 2>/dev/null
if [ -n "$name" ] && ! [ -e "$pack" ]; then
    (
        flock -w {WAIT_S} 9 2>/dev/null || exit
        find {PACKS} -type f -mmin +60 -exec rm -f {{}} +
        if ! [ -e "$pack" ] && [ "$(ls {PACKS} | grep -vc '[.]')" -lt {PACKS_MOST} ]; then
            say | "$@" 9>&- >"$pack.new.$$" && mv "$pack.new.$$" "$pack" || rm -f "$pack.new.$$"
        fi
    ) 9>"$pack.lock"
fi
[ -e "$pack" ] && cat "$pack" && exit
say | "$@"
"""
HOOKS = {"update": UPDATE, "pack-objects": PACK_OBJECTS}


def set_aright(path: str) -> bool:
    """Write the hooks of the repository at ``path`` that are missing or changed; tell whether there were any."""
    wrong = [name for name in HOOKS if not _is_ours(path, name)]
    for name in wrong:
        hook = os.path.join(path, "hooks", name)
        os.makedirs(os.path.dirname(hook), exist_ok=True)
        replace(hook, hook + ".skein-new", HOOKS[name].encode("ascii"), 0o755)
    return bool(wrong)


def are_ours(path: str) -> bool:
    """Tell whether all hooks are those of this version."""
    return all(_is_ours(path, name) for name in HOOKS)


def can_run(path: str) -> bool:
    """Tell whether hooks may be executed at all: git leaves out an ``update`` that may not, and pushes pass by it."""
    return all(os.access(os.path.join(path, "hooks", name), os.X_OK) for name in HOOKS)


def _is_ours(path: str, name: str) -> bool:
    hook = os.path.join(path, "hooks", name)
    try:
        with open(hook, encoding="utf-8", errors="replace") as file:
            return file.read() == HOOKS[name] and os.stat(hook).st_mode & 0o777 == 0o755
    except OSError:
        return False
