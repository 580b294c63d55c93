"""What qmp_client_test.sh does: drives berth-vmm by Ganeti's QMP client. usage: qmp_client.py BERTH_VMM FOLDER"""
import os
import subprocess
import sys
import time

from ganeti import errors
from ganeti.hypervisor.hv_kvm import monitor

berth_vmm, folder = sys.argv[1:]
failed = 0


def check(what, good, seen=""):
    global failed
    print("-- %s%s" % (what, "" if good else " FAILED: %s" % (seen,)))
    failed += not good


class Machine:
    """One berth-vmm, ended with the block."""

    def __init__(self, *options):
        self.socket = os.path.join(folder, "qmp.sock")
        self.process = subprocess.Popen(
            [berth_vmm, "--name", "client-1", "--kernel", folder + "/kernel", "--memory", "64MiB",
             "--disk", "name=root,raw=%s/disk" % folder, "--serial", "stdio", "--qmp", "unix:" + self.socket,
             "--hold", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def client(self):
        """Connects with each of its calls, and goes again, as Ganeti uses it."""
        return monitor.QmpConnection(self.socket)

    def wait(self):
        """The socket is there a moment after the program."""
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.client() as client:
                    return client.version, client.package, client.supported_commands
            except errors.HypervisorError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def execute(self, command, arguments=None):
        with self.client() as client:
            return client.Execute(command, arguments)

    def status(self):
        return self.execute("query-status")["status"]

    def counts(self):
        """The next 600 numbers that the guest says: each is one more than the one before."""
        said = b""
        while len(said) < 600:
            said += os.read(self.process.stdout.fileno(), 600 - len(said))
        return all((said[i] + 1) % 256 == said[i + 1] for i in range(len(said) - 1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def refused(call, *words):
    """The error's text, or None when it was not refused as QEMU refuses."""
    try:
        call(*words)
    except errors.HypervisorError as err:
        return str(err)
    return None


def settled(client, *words):
    """What query-migrate says when it no longer says one of the words."""
    deadline = time.monotonic() + 60
    while client.GetMigrationStatus()["status"] in words and time.monotonic() < deadline:
        time.sleep(0.05)
    return client.GetMigrationStatus()


with Machine() as machine:
    version, package, commands = machine.wait()
    client = machine.client()
    check("it is greeted with a version", len(version) == 3 and isinstance(package, str), version)
    check("it is told the commands", {"stop", "cont", "getfd", "migrate"} <= commands, commands)
    check("the machine waits", machine.status() == "prelaunch", machine.status())
    client.ContinueGuestEmulation()
    check("the machine runs", machine.status() == "running" and machine.counts())
    client.StopGuestEmulation()
    check("the machine stands still", machine.status() == "paused", machine.status())
    check("its name is told", machine.execute("query-name") == {"name": "client-1"})
    text = refused(machine.execute, "balloon", {"value": 0})
    check("what is refused is an error", text is not None and "(GenericError)" in text, text)
    try:
        client.StartPostcopyMigration()
        check("what it does not have is known beforehand", False)
    except monitor.QmpCommandNotSupported:
        check("what it does not have is known beforehand", True)
    with machine.client() as one:
        for _ in range(20):
            one.Execute("cont")
            one.Execute("stop")
        check("events are no answers", one.Execute("query-status")["status"] == "paused")

    limits = {"bps": 1 << 20, "bps_rd": 0, "bps_wr": 0, "iops": 100, "iops_rd": 0, "iops_wr": 0}
    machine.execute("block_set_io_throttle", dict(limits, id="root"))
    now = machine.execute("x-query-throttle")
    check("a disk is limited", now == [{"id": "root", "bps": 1 << 20, "bps_max": 0, "iops": 100, "iops_max": 0}], now)

    text = refused(client.StartMigration, "127.0.0.1", 1)
    check("a migration that it cannot do is refused", text is not None and machine.status() == "paused", text)
    file = os.open(folder + "/saved", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with machine.client() as one:
        one._GetFd(file, "snapshot")  # as it hands over a tap: before the command, with a blank
        one.Execute("migrate", {"uri": "fd:snapshot"})
    os.close(file)
    now = settled(client, "setup", "active")
    check("it is saved", now["status"] == "completed" and now["ram"]["remaining"] == 0, now)
    check("and paused", machine.status() == "paused", machine.status())
    machine.execute("quit")
    check("it ends when it is told to", machine.process.wait(timeout=30) == 0, machine.process.returncode)

with Machine("--incoming", folder + "/saved", "--lazy") as machine:
    machine.wait()
    client = machine.client()
    client.ContinueGuestEmulation()
    check("what was saved goes on", machine.counts() and machine.status() == "running")
    now = settled(client, "postcopy-active")
    check("all of its RAM comes in", now["status"] == "completed" and now["ram"]["remaining"] == 0, now)

sys.exit(1 if failed else 0)
