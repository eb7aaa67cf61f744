"""What the stock Python client does, against one node: suite.py NAME URL [OTHER_URL]

With OTHER_URL, a write over one node must show on the other. The client is unmodified.
"""

import subprocess
import sys
import time
import traceback

import libsql

NAME, URL, *OTHER = sys.argv[1:]
T = f"py_{NAME}"


def connect(url=URL):
    return libsql.connect(url, auth_token="")


db = connect()


def rows(sql, args=()):
    found = db.execute(sql, args).fetchall()
    db.commit()
    return found


def fails(sql, code, words=""):
    """The statement fails, and its error names `code` (and says `words`)."""
    try:
        db.execute(sql)
    except Exception as error:
        assert code in str(error) and words in str(error), str(error)
    else:
        raise AssertionError(f"{sql} did not fail")
    finally:
        db.rollback()


def schema():
    db.executescript(f"""
        DROP TABLE IF EXISTS {T}_child;
        DROP TABLE IF EXISTS {T};
        CREATE TABLE {T} (id INTEGER PRIMARY KEY, name TEXT UNIQUE, body, n INTEGER CHECK (n < 100),
                          must TEXT NOT NULL DEFAULT 'x');
        CREATE TABLE {T}_child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES {T}(id));
    """)
    db.commit()
    assert rows("SELECT count(*) FROM sqlite_master WHERE name IN (?, ?)", (T, f"{T}_child")) == [(2,)]


def values_come_back():
    values = [1, 2**31 - 1, 1.5, "κόσμε 🌍", "", b"\x00\xff" * 50_000, b"", None]
    for i, value in enumerate(values):
        db.execute(f"INSERT INTO {T} (name, body) VALUES (?, ?)", (f"v{i}", value))
    db.commit()
    assert [row[0] for row in rows(f"SELECT body FROM {T} ORDER BY id")] == values


def integers_beyond_2_53():
    # Written in the text: this client turns an argument that needs more than 32 bits into a float,
    # on a local database too.
    wide = [2**53 + 1, 2**63 - 1, -(2**63)]
    for value in wide:
        db.execute(f"INSERT INTO {T} (name, body) VALUES (?, {value})", (f"wide{value}",))
    db.commit()
    assert [row[0] for row in rows(f"SELECT body FROM {T} WHERE name LIKE 'wide%' ORDER BY id")] == wide


def a_cursor_tells_what_it_did():
    cursor = db.cursor()
    cursor.execute(f"INSERT INTO {T} (name) VALUES ('cursor')")
    inserted = cursor.lastrowid
    db.commit()
    assert rows(f"SELECT id FROM {T} WHERE name = 'cursor'") == [(inserted,)]
    cursor.execute(f"SELECT id, name AS who FROM {T} WHERE name LIKE 'v%' ORDER BY id")
    assert [column[0] for column in cursor.description] == ["id", "who"]
    assert cursor.fetchone()[1] == "v0"
    assert [row[1] for row in cursor.fetchmany(2)] == ["v1", "v2"]
    assert len(cursor.fetchall()) == 5
    db.commit()


def a_commit_keeps_and_a_rollback_undoes():
    db.execute(f"INSERT INTO {T} (name, n) VALUES ('kept', 1)")
    assert db.in_transaction
    db.execute(f"UPDATE {T} SET n = n + 1 WHERE name = 'kept'")
    db.commit()
    db.execute(f"INSERT INTO {T} (name) VALUES ('undone')")
    db.execute(f"DELETE FROM {T} WHERE name = 'kept'")
    db.rollback()
    assert not db.in_transaction
    assert rows(f"SELECT name, n FROM {T} WHERE name IN ('kept', 'undone')") == [("kept", 2)]


def a_transaction_shows_to_no_one_before_its_commit():
    other = connect()
    query = f"SELECT count(*) FROM {T} WHERE name = 'hidden'"
    db.execute(f"INSERT INTO {T} (name) VALUES ('hidden')")
    assert other.execute(query).fetchall() == [(0,)]
    db.commit()
    assert rows(query) == [(1,)]


def errors_have_codes():
    fails(f"INSERT INTO {T} (name) VALUES ('kept')", "SQLITE_CONSTRAINT", "UNIQUE")
    fails(f"INSERT INTO {T} (name, must) VALUES ('nn', NULL)", "SQLITE_CONSTRAINT", "NOT NULL")
    fails(f"INSERT INTO {T} (name, n) VALUES ('ck', 100)", "SQLITE_CONSTRAINT", "CHECK")
    fails(f"INSERT INTO {T}_child (parent) VALUES (4711)", "SQLITE_CONSTRAINT", "FOREIGN KEY")
    fails("SELECT * FROM no_such_table", "SQL_PARSE_ERROR", "no_such_table")
    assert rows(f"SELECT count(*) FROM {T} WHERE name IN ('nn', 'ck')") == [(0,)]


def many_rows_at_once():
    db.executemany(f"INSERT INTO {T} (name) VALUES (?)", [(f"many{i}",) for i in range(100)])
    db.commit()
    assert rows(f"SELECT count(*) FROM {T} WHERE name LIKE 'many%'") == [(100,)]


def a_large_result():
    rows_wanted = 5000
    series = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows_wanted})"
    found = rows(f"{series} SELECT i, 'row ' || i FROM n")
    assert len(found) == rows_wanted and found[-1] == (rows_wanted, f"row {rows_wanted}")


# Processes, not threads: the client holds Python's lock while it waits for the writer.
INSERTER = """
import sys, libsql
table, url, client = sys.argv[1:]
db = libsql.connect(url, auth_token="")
for i in range(5):
    db.execute(f"INSERT INTO {table} (name) VALUES (?)", (f"par{client}-{i}",))
    db.commit()
"""


def many_clients_at_once():
    command = [sys.executable, "-c", INSERTER, T, URL]
    clients = [subprocess.Popen([*command, str(client)]) for client in range(8)]
    assert [client.wait() for client in clients] == [0] * 8
    assert rows(f"SELECT count(*) FROM {T} WHERE name LIKE 'par%'") == [(40,)]


def a_write_shows_to_the_next_read():
    for i in range(30):
        db.execute(f"INSERT INTO {T} (name) VALUES (?)", (f"ryw{i}",))
        db.commit()
        assert rows(f"SELECT count(*) FROM {T} WHERE name = ?", (f"ryw{i}",)) == [(1,)]


def a_write_shows_on_the_other_node():
    other = connect(OTHER[0])
    other.execute(f"INSERT INTO {T} (name) VALUES ('from the other')")
    other.commit()
    deadline = time.monotonic() + 10
    query = f"SELECT count(*) FROM {T} WHERE name = 'from the other'"
    while rows(query) != [(1,)]:
        assert time.monotonic() < deadline, "it never showed"


TESTS = [
    schema,
    values_come_back,
    integers_beyond_2_53,
    a_cursor_tells_what_it_did,
    a_commit_keeps_and_a_rollback_undoes,
    a_transaction_shows_to_no_one_before_its_commit,
    errors_have_codes,
    many_rows_at_once,
    a_large_result,
    many_clients_at_once,
    a_write_shows_to_the_next_read,
]
if OTHER:
    TESTS.append(a_write_shows_on_the_other_node)

failed = 0
for test in TESTS:
    try:
        test()
        print(f"ok   python {NAME} {test.__name__}", flush=True)
    except BaseException as error:  # a panic of the client's native part is a BaseException
        failed += 1
        print(f"FAIL python {NAME} {test.__name__}: {error!r}", flush=True)
        traceback.print_exc()
        db.rollback()
sys.exit(1 if failed else 0)
