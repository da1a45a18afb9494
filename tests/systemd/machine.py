"""A machine whose first process is a real systemd, in namespaces of this one.

    machine.py ROOT          boots what is in the directory ROOT, which is made if it is not there
    machine.py --check ROOT  whether this machine lets us; says why if not

Needs root, unshare, overlayfs, cgroup2, and for a new ROOT debootstrap and a Debian mirror (Debian 13,
systemd 257: Type=notify-reload is of 253, the fd store as it is used here of 254). ROOT is never
written to: what the machine writes is in memory. It has its own processes, mounts, cgroups and
network. Once it is up this prints one line, the pid of its systemd; whoever has that gets at its files
by /proc/PID/root, and runs commands there by nsenter. When stdin ends, however that comes about, the
machine ends.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SUITE = "trixie"
MIRROR = os.environ.get("HANDOVER_TEST_MIRROR", "http://deb.debian.org/debian")
PACKAGES = "systemd,systemd-sysv,dbus"
# How long a boot may take.
PATIENCE = 60

# In the new namespaces; $1 is the root, $2 an empty directory.
BOOT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
cd "$2/root"
mount -t proc proc proc
# What is set there is the whole machine's.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do
    touch dev/$name
    mount --bind /dev/$name dev/$name
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs run
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=handover PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /usr/lib/systemd/systemd --system --show-status=no
"""


def trouble(root):
    """Why there can be no machine, or None."""
    if os.geteuid() != 0:
        return "it needs root, for namespaces"
    if not shutil.which("unshare"):
        return "it needs unshare (util-linux)"
    if not ready(root) and not shutil.which("debootstrap"):
        return "it needs debootstrap"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--net", "--uts", "--ipc", "true"],
        capture_output=True,
        text=True,
    )
    if tried.returncode != 0:
        return f"there are no namespaces: {tried.stderr.strip()}"
    if "overlay" not in pathlib.Path("/proc/filesystems").read_text():
        return "it needs overlayfs"
    if cgroups() is None:
        return "it needs a cgroup2 file system"
    return None


def ready(root):
    return (root / "usr/lib/systemd/systemd").exists()


def make(root):
    """Installs a small Debian, in one step."""
    root.parent.mkdir(parents=True, exist_ok=True)
    fresh = pathlib.Path(tempfile.mkdtemp(dir=root.parent, prefix="making-"))
    fresh.chmod(0o755)
    words = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(fresh), MIRROR]
    made = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode == 0:
        try:
            fresh.rename(root)
            return
        except OSError:
            # Another has made it meanwhile.
            pass
    shutil.rmtree(fresh, ignore_errors=True)
    if not ready(root):
        sys.exit(f"cannot install Debian: {made.stdout.strip().splitlines()[-1]}")


def cgroups():
    """Where the cgroup2 hierarchy is mounted."""
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(place)
    return None


def inside(pid, *words):
    enter = ["nsenter", "-t", str(pid), "-m", "-p", "-C", "-u", "-i", "-n", "-r", "-w"]
    return subprocess.run([*enter, *words], capture_output=True, text=True)


def boot(root, group, place):
    # In its cgroup first, so that this is the root of what it sees.
    enter = 'echo $$ >"$3/cgroup.procs" && exec unshare --mount --pid --fork --kill-child --cgroup ' \
        '--net --uts --ipc sh -c "$4" boot "$1" "$2"'
    outer = subprocess.Popen(
        ["sh", "-c", enter, "enter", str(root), str(place), str(group), BOOT],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    children = pathlib.Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    deadline = time.monotonic() + PATIENCE
    said = ""
    while time.monotonic() < deadline and outer.poll() is None:
        first = children.read_text().split()
        if first and pathlib.Path(f"/proc/{first[0]}/comm").read_text().strip() == "systemd":
            asked = inside(first[0], "systemctl", "is-system-running")
            said = asked.stdout.strip()
            # What a machine without hardware lacks does not matter here.
            if said in ("running", "degraded"):
                return outer, int(first[0])
        time.sleep(0.05)
    outer.kill()
    sys.exit(f"it does not boot: {said or 'systemd does not answer'}")


def end(outer, first, group):
    if first is not None:
        # With the first all go.
        os.kill(first, signal.SIGKILL)
    if outer is not None:
        outer.wait()
    deadline = time.monotonic() + 5
    while group.exists() and time.monotonic() < deadline:
        for inner, _, _ in os.walk(group, topdown=False):
            try:
                os.rmdir(inner)
            except OSError:
                pass
        time.sleep(0.02)


def main():
    check = sys.argv[1] == "--check"
    root = pathlib.Path(sys.argv[-1]).absolute()
    why = trouble(root)
    if why:
        sys.exit(why)
    if not ready(root):
        make(root)
    if check:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    group = cgroups() / f"handover-{os.getpid()}"
    group.mkdir()
    outer = first = None
    with tempfile.TemporaryDirectory() as place:
        try:
            outer, first = boot(root, group, place)
            print(first, flush=True)
            sys.stdin.buffer.read()
        finally:
            end(outer, first, group)


main()
