#!/usr/bin/env bash
# pycolmap 4.2.1: `import pycolmap` takes SIGTERM away from a handler that Python has set before,
# and Python still says that its handler is in place.
#
# Expected: importing a library leaves the process's signal handlers as they are. SIGTERM is how
#   servers and job managers ask a process to end; a handler that was set runs, and cleans up.
# Seen: after the import `signal.getsignal(SIGTERM)` is the handler as before, but it never runs:
#   on SIGTERM a stack trace is printed ("*** SIGTERM ... received by PID ...") and the process
#   dies by the signal; neither the handler, nor `finally`, nor `atexit` has a turn, so temporary
#   files stay. Imported before the handler is set, all is well; so does setting it once more.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet pycolmap==4.2.1 numpy==2.4.6
cd "$work"
cat > ends.py <<'PYTHON'
import os
import signal
import sys

if sys.argv[1] == "before":
    import pycolmap


def handler(*_):
    print("handled", flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, handler)
if sys.argv[1] == "after":
    import pycolmap
assert signal.getsignal(signal.SIGTERM) is handler
try:
    os.kill(os.getpid(), signal.SIGTERM)
    print("went on", flush=True)
finally:
    print("cleaned up", flush=True)
PYTHON
for when in never before after; do
    code=0
    "$work/venv/bin/python" ends.py "$when" > "$when.out" 2> "$when.err" || code=$?
    echo "pycolmap imported $when: exit code $code, said: $(tr '\n' ' ' < "$when.out")"
    echo "$code" > "$when.code"
done
grep -q "handled" never.out && grep -q "handled" before.out
[ "$(cat never.code)" = 0 ] && [ "$(cat before.code)" = 0 ]
! grep -q "handled" after.out
! grep -q "cleaned up" after.out
[ "$(cat after.code)" = 143 ]
grep -q "SIGTERM" after.err
