"""What this host remembers: the highest turn it saw, what was live when, and a flip that nobody has confirmed yet."""

import json
import os
import time

from .place import FORMAT, read_json, write_json

HISTORY_MOST = 500
LOG_MOST = 1 << 20


class State:
    """The content of ``state.json``.

    ``turn`` and ``decision`` are those of the newest flip seen; ``history`` lists what was live, oldest first, each
    ``{"id", "turn", "at", "kind", "by", "reason"}``; ``pending`` is the flip under way or None.
    """

    def __init__(self, place):
        self.place = place
        value = read_json(place.state, "state") or {}
        self.turn = value.get("turn", 0)
        self.decision = value.get("decision")
        self.history = value.get("history", [])
        self.pending = value.get("pending")

    def save(self):
        """Write it, durably."""
        value = {"format": FORMAT, "turn": self.turn, "decision": self.decision, "pending": self.pending}
        value["history"] = self.history[-HISTORY_MOST:]
        self.place.spared(lambda: write_json(self.place.state, value))

    def settle(self):
        """Turn a pending flip into history where the link shows that it happened, and forget it where it did not."""
        if self.pending is None:
            return
        record, self.pending = self.pending, None
        if self.place.link_reads() == self.place.link_text(record["id"]):
            self.history.append({key: record[key] for key in ("id", "turn", "at", "kind", "by", "reason")})
        self.save()


def live_stack(history):
    """Return the ids that a chain of rollbacks would visit, oldest first, the live one last.

    A deploy pushes its id; a rollback goes back to where its id stands, so rolling back twice goes two back, not forth.
    """
    stack = []
    for record in history:
        if record["kind"] == "rollback" and record["id"] in stack:
            del stack[stack.index(record["id"]) + 1 :]
        elif not stack or stack[-1] != record["id"]:
            stack.append(record["id"])
    return stack


def write_log(place, record):
    """Append a line to this host's own log, best effort: a full disk must not stop a rollback."""
    try:
        if os.path.exists(place.log) and os.path.getsize(place.log) > LOG_MOST:
            os.rename(place.log, place.log + ".1")
        with open(place.log, "a") as file:
            file.write(json.dumps(dict(record, logged_at=time.time())) + "\n")
    except OSError:
        pass


def sweep(place):
    """Remove what a killed run of ours left: private files, stale git locks, links that were laid but never used."""
    from .trees import remove

    for name in os.listdir(place.tmp):
        remove(os.path.join(place.tmp, name))
    folder, name = os.path.split(place.link)
    for entry in os.listdir(folder):
        if entry.startswith(".%s.skein-" % name) and os.path.islink(os.path.join(folder, entry)):
            os.unlink(os.path.join(folder, entry))
    for folder in (place.own, place.manifests):
        for entry in os.listdir(folder):
            if entry.endswith(".new"):
                os.unlink(os.path.join(folder, entry))
    for folder, suffix in ((place.manifests, ".json"), (place.indexes, "")):
        for entry in os.listdir(folder):
            if not os.path.isdir(os.path.join(place.releases, entry[: len(entry) - len(suffix)])):
                os.unlink(os.path.join(folder, entry))
    sweep_repository(place.repo)


def sweep_repository(repo):
    """Remove what a killed git left in a repository of ours; the caller holds its lock, so no git of ours is running."""
    from .trees import remove

    for folder, folders, files in os.walk(repo):
        for name in files:
            if name.endswith(".lock") or name.startswith(("tmp_pack_", "tmp_idx_", "tmp_obj_", "tmp_rev_")):
                os.unlink(os.path.join(folder, name))
        for name in [name for name in folders if name.startswith("tmp_objdir-")]:
            remove(os.path.join(folder, name))
            folders.remove(name)
