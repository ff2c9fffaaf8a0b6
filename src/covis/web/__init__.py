"""The page: what `covis web` serves. Only `cli/web.py` imports this room, which needs the extra
"web". Its pages call the public API; nothing is kept twice."""
