"""Skein's tasks: the same under `fab` and `invoke`. A file here is a command, a folder is a floor."""

from invoke.collection import Collection

from . import adopt, bench, check, deploy, dev, lab, ledger, lock, mirrors, rollback, setup, status

ns = Collection(deploy.deploy, rollback.rollback, status.status, check.check, setup.setup, adopt.adopt, bench.bench)
for command in (lock.lock, lock.unlock, ledger.log, ledger.releases, ledger.diff, ledger.history):
    ns.add_task(command)
ns.add_collection(Collection.from_module(dev))
ns.add_collection(Collection.from_module(lab))
ns.add_collection(Collection.from_module(mirrors))

__all__ = ["ns"]
