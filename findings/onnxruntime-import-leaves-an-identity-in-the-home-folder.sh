#!/usr/bin/env bash
# onnxruntime 1.32.0 (Linux wheel): `import onnxruntime` alone writes an event database and a
# device identity into the user's cache.
#
# Expected: an import writes nothing outside the package; the documented
#   `disable_telemetry_events()` leaves nothing behind.
# Seen: two files appear under ~/.cache/Microsoft/DeveloperTools/.onnxruntime at import, also when
#   `disable_telemetry_events()` is the very next call. Only ORT_DISABLE_TELEMETRY=1, set before the
#   import, keeps the home folder empty. In containers whose home is read-only or shared this is
#   the file that turns up unexplained.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet onnxruntime==1.32.0 numpy==2.4.6
left_by() { # a folder's name, the program, settings of the environment
    mkdir "$work/$1"
    (cd "$work/$1" && env -u XDG_CACHE_HOME -u ORT_DISABLE_TELEMETRY HOME="$work/$1" "${@:3}" \
        "$work/venv/bin/python" -c "$2")
    (cd "$work/$1" && find . -type f | sort)
}
plain=$(left_by plain "import onnxruntime" A=1)
after=$(left_by after "import onnxruntime; onnxruntime.disable_telemetry_events()" A=1)
before=$(left_by before "import onnxruntime" ORT_DISABLE_TELEMETRY=1)
printf 'import alone:\n%s\nswitched off after it:\n%s\nvariable set before it: "%s"\n' \
    "$plain" "$after" "$before"
expected="./.cache/Microsoft/DeveloperTools/.onnxruntime/deviceid
./.cache/Microsoft/DeveloperTools/.onnxruntime/onnxruntime.db"
[ "$plain" = "$expected" ]
[ "$after" = "$expected" ]
[ -z "$before" ]
