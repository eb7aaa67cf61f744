#!/usr/bin/env python3
"""Recount the digest of an SQLite file, sharing no code with Syncline.

    recount.py FILE            {"digest": ..., "tables": {name: {"rows": n, "digest": ...}}}
    recount.py --postgres URL  the same, of a PostgreSQL backing database, by plain SELECTs through psql
    recount.py --check VECTORS the golden vectors, recounted: exit 0 if all agree

Written from docs/formats.md alone. The file is opened read-only and read in one transaction.
Needs Python 3 with SQLite 3.37 or later, and the `xxhash` package.
"""

import decimal
import json
import re
import sqlite3
import struct
import subprocess
import sys
import urllib.parse

import xxhash

HIDDEN_PREFIXES = ("sqlite_", "_syncline_")


def hash128(data):
    return xxhash.xxh3_128_intdigest(data)


def encode(value):
    """The hash encoding of a value. SQLite's integer, real, text and blob arrive as int, float, str
    and bytes."""
    if value is None:
        return b"\x00"
    if isinstance(value, int):
        return b"\x01" + struct.pack(">q", value)
    if isinstance(value, float):
        if value != value:
            return bytes.fromhex("027ff8000000000000")
        return b"\x02" + struct.pack(">d", value + 0.0)  # -0.0 + 0.0 is 0.0
    tag, data = (b"\x03", value.encode()) if isinstance(value, str) else (b"\x04", bytes(value))
    return tag + struct.pack(">Q", len(data)) + data


def row_bytes(rowid, values):
    values = list(values)
    while values and values[-1] is None:
        values.pop()
    key = [] if rowid is None else [rowid]
    return b"".join(encode(value) for value in key + values)


def quote(name):
    return '"' + name.replace('"', '""') + '"'


def columns_of(db, table):
    """(name, type, notnull, pk, hidden) of each column, in declared order."""
    rows = db.execute(f"PRAGMA main.table_xinfo({quote(table)})")
    return [(name, kind, notnull, pk, hidden) for _, name, kind, notnull, _, pk, hidden in rows]


def has_usable_key(db, table, columns, without_rowid):
    key = [column for column in columns if column[3] > 0]
    if without_rowid:
        return True
    if not key:
        return False
    if all(notnull for _, _, notnull, _, _ in key):
        return True
    # An INTEGER PRIMARY KEY is the rowid itself, and then (only then) has no index of its own.
    indexes = db.execute(f"PRAGMA main.index_list({quote(table)})")
    has_index = any(origin == "pk" for _, _, _, origin, _ in indexes)
    return len(key) == 1 and key[0][1].upper() == "INTEGER" and not has_index


def rowid_name(columns):
    taken = {name.lower() for name, *_ in columns}
    return next(name for name in ("rowid", "_rowid_", "oid") if name not in taken)


def fingerprint(columns, without_rowid, strict):
    parts = [part for column in columns for part in column] + [without_rowid, strict]
    return hash128(b"".join(encode(part) for part in parts))


def recount_table(db, table, without_rowid, strict):
    columns = columns_of(db, table)
    usable = has_usable_key(db, table, columns, without_rowid)
    wanted = [quote(name) for name, _, _, _, hidden in columns if hidden == 0]
    wanted.insert(0, "NULL" if usable else rowid_name(columns))
    rows, total = 0, 0
    for rowid, *values in db.execute(f"SELECT {', '.join(wanted)} FROM main.{quote(table)} NOT INDEXED"):
        rows += 1
        total += hash128(row_bytes(rowid, values))
    return fingerprint(columns, without_rowid, strict), rows, total % 2**128


def counted_tables(db):
    """(name, without_rowid, strict) of every table that counts, shadow tables included."""
    listed = db.execute(
        "SELECT name, wr, strict FROM pragma_table_list"
        " WHERE schema = 'main' AND type IN ('table', 'shadow') ORDER BY name"
    )
    return [row for row in listed.fetchall() if not row[0].lower().startswith(HIDDEN_PREFIXES)]


def recount(db):
    total, tables = 0, {}
    for name, without_rowid, strict in counted_tables(db):
        print_, rows, digest = recount_table(db, name, without_rowid, strict)
        total += hash128(encode(name) + print_.to_bytes(16, "big") + digest.to_bytes(16, "big"))
        tables[name] = {"rows": rows, "digest": f"{digest:032x}", "fingerprint": f"{print_:032x}"}
    return {"digest": f"{total % 2**128:032x}", "tables": tables}


def open_database(name, **options):
    db = sqlite3.connect(name, isolation_level=None, **options)
    db.text_factory = lambda data: data.decode("utf-8", "strict")
    return db


def recount_file(path):
    db = open_database(f"file:{urllib.parse.quote(path)}?mode=ro", uri=True)
    db.execute("BEGIN")
    result = recount(db)
    db.close()
    for table in result["tables"].values():
        del table["fingerprint"]
    return result


# --- rows in PostgreSQL ------------------------------------------------------------------------


def select(url, sql):
    """The rows of a query, each a list of texts; NULL is None. One row a time, as psql brings them."""
    command = ["psql", "-qX", url, "-c", f"COPY ({sql}) TO STDOUT"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as psql:
        for line in psql.stdout:
            yield [unescape(field) for field in line[:-1].split("\t")]
    if psql.returncode != 0:
        raise SystemExit(f"psql failed: {sql}")


def unescape(field):
    """A field of COPY's text format."""
    if field == "\\N":
        return None
    plain = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
    return re.sub(r"\\(.)", lambda found: plain.get(found[1], found[1]), field, flags=re.S)


def stored(text, kind):
    """What SQLite stores for a value that PostgreSQL shows so, in a column of PostgreSQL's type `kind`."""
    if text is None:
        return None
    if kind == "bigint":
        return int(text)
    if kind == "double precision":
        return float(text)
    if kind == "boolean":
        return {"t": 1, "f": 0}[text]
    if kind == "bytea":
        return bytes.fromhex(text.removeprefix("\\x"))
    if kind == "numeric":
        number = decimal.Decimal(text)
        whole = number == number.to_integral_value() and -(2**63) < number < 2**63 - 1
        return int(number) if whole else float(number)
    return text


def recount_postgres(url):
    db = open_database(":memory:")
    for _, sql in select(url, "SELECT place, sql FROM _syncline_schema WHERE kind = 'table' ORDER BY place"):
        db.execute(sql)
    total, tables = 0, {}
    for name, without_rowid, strict in counted_tables(db):
        columns = columns_of(db, name)
        usable = has_usable_key(db, name, columns, without_rowid)
        wanted = [column for column, _, _, _, hidden in columns if hidden == 0]
        if not usable:
            wanted.insert(0, "_syncline_rowid")
        kinds = dict(select(url, (
            "SELECT column_name, data_type FROM information_schema.columns"
            f" WHERE table_schema = current_schema AND table_name = '{name}'"
        )))
        rows, digest = 0, 0
        for texts in select(url, f"SELECT {', '.join(map(quote, wanted))} FROM {quote(name)}"):
            values = [stored(text, kinds[column]) for text, column in zip(texts, wanted)]
            rowid = None if usable else values.pop(0)
            rows += 1
            digest += hash128(row_bytes(rowid, values))
        digest %= 2**128
        print_ = fingerprint(columns, without_rowid, strict)
        total += hash128(encode(name) + print_.to_bytes(16, "big") + digest.to_bytes(16, "big"))
        tables[name] = {"rows": rows, "digest": f"{digest:032x}"}
    return {"digest": f"{total % 2**128:032x}", "tables": tables}


# --- the golden vectors ------------------------------------------------------------------------


def value_of(written):
    """A value as the vectors write it: null or {class: text}."""
    if written is None:
        return None
    ((kind, text),) = written.items()
    return {
        "integer": int,
        "real": lambda bits: struct.unpack(">d", bytes.fromhex(bits))[0],
        "text": str,
        "blob": bytes.fromhex,
    }[kind](text)


def check_row(vector):
    rowid = None if vector["rowid"] is None else int(vector["rowid"])
    data = row_bytes(rowid, map(value_of, vector["values"]))
    expect(vector["what"], data.hex(), vector["bytes"])
    expect(vector["what"], f"{hash128(data):032x}", vector["hash"])


def check_database(vector):
    db = open_database(":memory:")
    for statement in vector["sql"]:
        db.execute(statement)
    result = recount(db)
    expected = {
        table["name"]: {
            "rows": len(table["rows"]),
            "digest": table["digest"],
            "fingerprint": table["fingerprint"],
        }
        for table in vector["tables"]
    }
    expect("the tables of the database", result["tables"], expected)
    expect("the digest of the database", result["digest"], vector["digest"])


def check_counted(vector):
    db = open_database(":memory:")
    try:
        for statement in vector["sql"]:
            db.execute(statement)
    except sqlite3.OperationalError as error:
        if "no such module" not in str(error):
            raise
        print(f"skipped {vector['what']}: {error}", file=sys.stderr)
        return
    expect(vector["what"], [name for name, _, _ in counted_tables(db)], vector["counted"])


def check_commit(vector):
    frame = bytes.fromhex(vector["frame"])
    length, checksum, format_, parts = struct.unpack(">IQBI", frame[:17])
    region = frame[17:]
    what = vector["what"]
    expect(what, (length, checksum), (len(frame) - 12, xxhash.xxh3_64_intdigest(frame[12:])))
    expect(what, (format_, parts), (1, len(vector["parts"])))
    header, body, digest = region[:48], region[48:-16], region[-16:]
    names = ("previous", "epoch", "tag", "version", "at", "digest")
    numbers = (header[:16].hex(), *map(str, struct.unpack(">4Q", header[16:])), digest.hex())
    expect(what, dict(zip(names, numbers)), vector["header"])
    if parts:
        expect(what, body.hex(), vector["chain"])
        body = bytes.fromhex("".join(vector["parts"]))
    expect(what, body.hex(), vector["body"])
    expect(what, f"{hash128(header + body + digest):032x}", vector["chain"])


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}:\n  counted {found}\n  wanted  {wanted}")


def check(path):
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    for vector in vectors["rows"]:
        check_row(vector)
    check_database(vectors["database"])
    for vector in vectors["counted"]:
        check_counted(vector)
    for vector in vectors["commits"]:
        check_commit(vector)


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--check":
        check(arguments[1])
    elif len(arguments) == 2 and arguments[0] == "--postgres":
        print(json.dumps(recount_postgres(arguments[1])))
    elif len(arguments) == 1 and not arguments[0].startswith("-"):
        print(json.dumps(recount_file(arguments[0])))
    else:
        print(__doc__, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
