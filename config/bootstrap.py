"""Makes .venv and installs the pinned packages into it. Run by `make`, by any Python 3.

    python3 config/bootstrap.py          what `make run` needs
    python3 config/bootstrap.py --dev    what `make test` and `make check` need too

Uses the standard library alone, and syntax that old interpreters understand, so that a Python
that is too old is told so in one sentence.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys

NEEDED = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "farebox-installed.json")
UNDER_WAY = os.path.join(VENV, "farebox-installing")
RUNTIME, DEVELOPMENT = "requirements.lock", "requirements-dev.lock"
DISK_FULL = "No space left on device"
SPACE_NEEDED_MB = 700


class Refused(Exception):
    """Cannot go on; the sentence says why and what to do."""


def check_version():
    if sys.version_info < NEEDED:
        raise Refused(
            "Farebox needs Python {0}.{1} or newer; this is {2}. Install a newer one, or name it: "
            "make PYTHON=/path/to/python3.12 run".format(
                NEEDED[0], NEEDED[1], sys.version.split()[0]
            )
        )


def digest(lock):
    with open(os.path.join(ROOT, lock), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def installed():
    """What was installed completely, into this very folder."""
    try:
        with open(STAMP) as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return {}
    return stamp if stamp.get("folder") == VENV and os.path.exists(VENV_PYTHON) else {}


def run(command, **options):
    """Run quietly; return (code, everything it said)."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, **options
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def environment_works():
    """Whether .venv is whole: an interpreter that is new enough, with pip, made for this folder."""
    if not os.path.exists(VENV_PYTHON) or os.path.exists(UNDER_WAY):
        return False  # a killed installation may have left half a package that looks whole
    probe = "import pip, sys; print(sys.version_info >= {0}); print(sys.prefix)".format(NEEDED)
    code, said = run([VENV_PYTHON, "-c", probe])
    return code == 0 and said.splitlines() == ["True", VENV]


def make_environment():
    if environment_works():
        return
    if os.path.lexists(VENV):
        remove(VENV)  # left by an interrupted run, another Python, or a folder that was moved
    try:
        import ensurepip
        import venv
    except ImportError:
        raise Refused(
            "{0} has no venv module; install it (Debian and Ubuntu: apt install python3-venv) and "
            "run this again.".format(sys.executable)
        )
    del ensurepip, venv
    say("Making .venv with Python {0}...".format(sys.version.split()[0]))
    code, said = run([sys.executable, "-m", "venv", VENV])
    if code != 0:
        raise Refused(reason("The virtual environment .venv could not be made", said))


def remove(path):
    if os.path.islink(path):
        os.unlink(path)
    else:
        shutil.rmtree(path)


def install(lock):
    with open(os.path.join(ROOT, lock)) as file:
        count = sum(1 for line in file if "==" in line and not line.startswith((" ", "#")))
    say("Installing {0} packages of {1} into .venv (once; about a minute)...".format(count, lock))
    open(UNDER_WAY, "w").close()
    code, said = run(
        [VENV_PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        + ["--no-input", "--require-hashes", "--no-deps", "--requirement", lock]
    )
    if code != 0:
        raise Refused(reason("The packages of {0} could not be installed".format(lock), said))
    os.unlink(UNDER_WAY)


def reason(what, said):
    if DISK_FULL in said:
        return disk_full()
    lines = [line for line in said.strip().splitlines() if line.strip()]
    errors = [line for line in lines if line.lstrip().lower().startswith("error")]
    return "{0}: {1}".format(what, (errors or lines or ["no reason given"])[-1].strip())


def disk_full():
    return "The disk that holds {0} is full ({1} MB free); Farebox's packages need {2} MB.".format(
        ROOT, shutil.disk_usage(ROOT).free // 1000000, SPACE_NEEDED_MB
    )


def say(text):
    print(text)
    sys.stdout.flush()


def alone():
    """Wait for another run of this that installs into the same folder."""
    try:
        import fcntl
    except ImportError:
        return None
    file = open(os.path.join(ROOT, ".venv.lock"), "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def bootstrap(development):
    check_version()
    lock = DEVELOPMENT if development else RUNTIME
    wanted = digest(lock)
    if installed().get(lock) == wanted:
        return
    guard = alone()
    try:
        if installed().get(lock) == wanted:
            return
        stamp = installed()
        make_environment()
        install(lock)
        stamp["folder"] = VENV
        stamp[lock] = wanted
        if development:  # it holds everything the other does, at the same versions
            stamp[RUNTIME] = digest(RUNTIME)
        partial = STAMP + ".new"
        with open(partial, "w") as file:
            json.dump(stamp, file)
        os.replace(partial, STAMP)
    finally:
        if guard is not None:
            guard.close()


def main():
    try:
        bootstrap("--dev" in sys.argv[1:])
    except Refused as refusal:
        say(str(refusal))
        return 1
    except OSError as error:
        say(disk_full() if error.errno == 28 else "Setting up failed: {0}".format(error))
        return 1
    except KeyboardInterrupt:
        say("Interrupted; run it again to go on.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
