#!/usr/bin/env bash
# pylance 14.0.2: a BTREE index on the key column switches off the protection of `merge_insert`.
#
# Expected: two writers that started from one version and add the same keys, where the schema
#   declares the key as the (unenforced) primary key: the second sees the first's rows and adds
#   none, with or without an index on the key.
# Seen: without an index 523 rows. With one both writers "insert" 23 rows and the table holds
#   each of them twice: 546. Nothing is raised and nothing is logged. An index made for speed, at
#   any time after the table, changes what concurrent writers may do.
# Way out: `.use_index(False)` on the merge, or a look for doubled keys after the commit.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet pylance==14.0.2 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import lance
import pyarrow as pa

key = pa.field("key", pa.string(), nullable=False,
               metadata={"lance-schema:unenforced-primary-key": "true"})
schema = pa.schema([key, pa.field("value", pa.int64())])


def rows(begin, end):
    numbers = range(begin, end)
    return pa.table({"key": [f"k{n}" for n in numbers], "value": list(numbers)}, schema=schema)


def two_writers(name, indexed, **merging):
    table = lance.write_dataset(rows(0, 500), name, schema=schema)
    if indexed:
        table.create_scalar_index("key", "BTREE")
    writers = lance.dataset(name), lance.dataset(name)
    inserted = []
    for writer in writers:
        merge = writer.merge_insert("key").when_not_matched_insert_all()
        merge = merge.use_index(False) if merging else merge
        inserted.append(merge.execute(rows(500, 523))["num_inserted_rows"])
    return inserted, lance.dataset(name).count_rows()


seen = {
    "no index": two_writers("plain", False),
    "index on the key": two_writers("indexed", True),
    "index, use_index(False)": two_writers("unused", True, unused=True),
}
for case, (inserted, count) in seen.items():
    print(f"{case}: inserted {inserted}, {count} rows")
assert seen["no index"] == ([23, 0], 523)
assert seen["index on the key"] == ([23, 23], 546)
assert seen["index, use_index(False)"][1] == 523
PYTHON
