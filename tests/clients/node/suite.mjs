// What the stock JavaScript client does, against one node: node suite.mjs NAME URL [OTHER_URL]
//
// With OTHER_URL, a write over one node must show on the other. The client is unmodified; its
// `fetch` option only listens, since this version drops the extended code that the server sends.
import assert from "node:assert/strict";
import { createClient } from "@libsql/client";

const [name, url, otherUrl] = process.argv.slice(2);
const prefix = `js_${name}`;
let lastAnswer = "";

const listen = async (request) => {
  const response = await fetch(request);
  const text = await response.clone().text();
  if (text.includes('"message"')) lastAnswer = text;
  return response;
};

const client = createClient({ url, intMode: "bigint", fetch: listen });
const numbers = createClient({ url });

// The call must fail with this primary and this extended code.
async function fails(call, code, extended = code) {
  lastAnswer = "";
  let error;
  try {
    await call();
  } catch (caught) {
    error = caught;
  }
  assert.ok(error, `no error where ${extended} was due`);
  assert.equal(error.code, code, error.message);
  assert.ok(lastAnswer.includes(`"${extended}"`), `${extended} is not in ${lastAnswer}`);
}

const rows = async (sql, args = []) => (await client.execute({ sql, args })).rows.map((r) => Array.from(r));
const count = async (table) => Number((await rows(`SELECT count(*) FROM ${table}`))[0][0]);

const tests = {
  async schema() {
    await client.batch(
      [
        `DROP VIEW IF EXISTS ${prefix}_names`,
        `DROP TABLE IF EXISTS ${prefix}_log`,
        `DROP TABLE IF EXISTS ${prefix}_child`,
        `DROP TABLE IF EXISTS ${prefix}`,
        `CREATE TABLE ${prefix} (id INTEGER PRIMARY KEY, name TEXT UNIQUE, body ANY, n INTEGER CHECK (n < 100), must TEXT NOT NULL DEFAULT 'x')`,
        `CREATE TABLE ${prefix}_child (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL REFERENCES ${prefix}(id) ON DELETE CASCADE)`,
        `CREATE TABLE ${prefix}_log (what TEXT)`,
        `CREATE INDEX ${prefix}_n ON ${prefix} (n)`,
        `CREATE VIEW ${prefix}_names AS SELECT name FROM ${prefix}`,
        `CREATE TRIGGER ${prefix}_added AFTER INSERT ON ${prefix} BEGIN INSERT INTO ${prefix}_log VALUES (new.name); END`,
      ],
      "write",
    );
    const found = await rows("SELECT name FROM sqlite_master WHERE name LIKE ? ORDER BY name", [`${prefix}%`]);
    assert.equal(found.length, 6);
    const internal = await rows("SELECT name FROM sqlite_master WHERE name LIKE '\\_syncline%' ESCAPE '\\'");
    assert.deepEqual(internal, [], "internal tables do not show");
  },

  async positional_and_named_arguments() {
    const one = await client.execute({ sql: `INSERT INTO ${prefix} (name, n) VALUES (?, ?)`, args: ["one", 1] });
    assert.equal(one.rowsAffected, 1);
    const two = await client.execute({ sql: `INSERT INTO ${prefix} (name, n) VALUES (:name, @n)`, args: { name: "two", n: 2 } });
    assert.equal(two.lastInsertRowid, one.lastInsertRowid + 1n);
    const all = await client.execute(`SELECT name AS who, n FROM ${prefix} ORDER BY id`);
    assert.deepEqual(all.columns, ["who", "n"]);
    assert.equal(all.rows[1].who, "two");
    assert.deepEqual(await rows(`SELECT what FROM ${prefix}_log ORDER BY rowid`), [["one"], ["two"]]);
  },

  async integers_beyond_2_53() {
    const wide = [9007199254740993n, 9223372036854775807n, -9223372036854775808n];
    for (const [i, value] of wide.entries()) {
      await client.execute({ sql: `INSERT INTO ${prefix} (name, body) VALUES (?, ?)`, args: [`wide${i}`, value] });
    }
    const back = await rows(`SELECT body FROM ${prefix} WHERE name LIKE 'wide%' ORDER BY name`);
    assert.deepEqual(back, wide.map((value) => [value]));
    await assert.rejects(numbers.execute(`SELECT body FROM ${prefix} WHERE name = 'wide0'`), RangeError);
  },

  async numbers_take_the_columns_type() {
    await numbers.execute({ sql: `INSERT INTO ${prefix} (name, n, body) VALUES ('num', ?, ?)`, args: [7, 1.5] });
    const back = await rows(`SELECT n, typeof(n), body, typeof(body) FROM ${prefix} WHERE name = 'num'`);
    assert.deepEqual(back, [[7n, "integer", 1.5, "real"]]);
  },

  async blobs_texts_and_nulls() {
    const big = new Uint8Array(100_000).map((_, i) => i * 31);
    for (const [key, value] of [["blob", big], ["blob0", new Uint8Array()], ["text", "κόσμε 🌍\0end"], ["empty", ""], ["null", null]]) {
      await client.execute({ sql: `INSERT INTO ${prefix} (name, body) VALUES (?, ?)`, args: [key, value] });
    }
    const body = async (key) => (await rows(`SELECT body FROM ${prefix} WHERE name = ?`, [key]))[0][0];
    assert.deepEqual(new Uint8Array(await body("blob")), big);
    assert.equal((await body("blob0")).byteLength, 0);
    assert.equal(await body("text"), "κόσμε 🌍\0end");
    assert.equal(await body("empty"), "");
    assert.equal(await body("null"), null);
  },

  async a_failed_batch_leaves_nothing() {
    const before = await count(prefix);
    const batch = [`INSERT INTO ${prefix} (name) VALUES ('b1')`, `INSERT INTO ${prefix} (name) VALUES ('one')`, `INSERT INTO ${prefix} (name) VALUES ('b2')`];
    await fails(() => client.batch(batch, "write"), "SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_UNIQUE");
    assert.equal(await count(prefix), before);
  },

  async a_batch_answers_each_statement() {
    const results = await client.batch(
      [`INSERT INTO ${prefix} (name) VALUES ('b3')`, { sql: `SELECT count(*) FROM ${prefix} WHERE name = ?`, args: ["b3"] }],
      "write",
    );
    assert.equal(results[0].rowsAffected, 1);
    assert.equal(results[1].rows[0][0], 1n);
    const read = await client.batch(["SELECT 1", "SELECT 2"], "read");
    assert.deepEqual(read.map((r) => r.rows[0][0]), [1n, 2n]);
  },

  async errors_have_codes() {
    const run = (sql) => () => client.execute(sql);
    await fails(run(`INSERT INTO ${prefix} (name) VALUES ('one')`), "SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_UNIQUE");
    await fails(run(`INSERT INTO ${prefix} (id, name) VALUES (1, 'other')`), "SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_PRIMARYKEY");
    await fails(run(`INSERT INTO ${prefix} (name, must) VALUES ('nn', NULL)`), "SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_NOTNULL");
    await fails(run(`INSERT INTO ${prefix} (name, n) VALUES ('ck', 100)`), "SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_CHECK");
    await fails(run(`INSERT INTO ${prefix}_child (parent) VALUES (4711)`), "SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_FOREIGNKEY");
    await fails(run("SELECT * FROM no_such_table"), "SQL_PARSE_ERROR");
    await assert.rejects(client.execute("SELEC 1"), (e) => ["SQL_PARSE_ERROR", "SQLITE_ERROR"].includes(e.code));
    await assert.rejects(client.execute("ATTACH 'x.db' AS x"), (e) => typeof e.code === "string");
  },

  async an_interactive_transaction_commits() {
    const tx = await client.transaction("write");
    try {
      await tx.execute({ sql: `INSERT INTO ${prefix} (name, n) VALUES (?, ?)`, args: ["tx", 1] });
      await tx.execute(`UPDATE ${prefix} SET n = n + 1 WHERE name = 'tx'`);
      const inside = await tx.execute(`SELECT n FROM ${prefix} WHERE name = 'tx'`);
      assert.equal(inside.rows[0][0], 2n);
      await tx.batch([`UPDATE ${prefix} SET n = n + 1 WHERE name = 'tx'`]);
      await tx.commit();
    } finally {
      tx.close();
    }
    assert.deepEqual(await rows(`SELECT n FROM ${prefix} WHERE name = 'tx'`), [[3n]]);
  },

  async a_transaction_shows_to_no_one_before_its_commit() {
    const tx = await client.transaction("write");
    await tx.execute(`INSERT INTO ${prefix} (name) VALUES ('hidden')`);
    assert.deepEqual(await rows(`SELECT name FROM ${prefix} WHERE name = 'hidden'`), []);
    await tx.rollback();
    assert.deepEqual(await rows(`SELECT name FROM ${prefix} WHERE name = 'hidden'`), []);
  },

  async a_failed_statement_does_not_end_its_transaction() {
    const tx = await client.transaction("write");
    await tx.execute(`INSERT INTO ${prefix} (name) VALUES ('survivor')`);
    await fails(() => tx.execute(`INSERT INTO ${prefix} (name) VALUES ('one')`), "SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_UNIQUE");
    await tx.commit();
    assert.equal((await rows(`SELECT 1 FROM ${prefix} WHERE name = 'survivor'`)).length, 1);
  },

  async a_closed_transaction_is_undone() {
    const tx = await client.transaction("write");
    await tx.execute(`INSERT INTO ${prefix} (name) VALUES ('closed')`);
    tx.close();
    // The next write waits for the writer, so it comes after the close.
    await client.execute(`INSERT INTO ${prefix} (name) VALUES ('after closed')`);
    assert.deepEqual(await rows(`SELECT 1 FROM ${prefix} WHERE name = 'closed'`), []);
  },

  async a_read_transaction_refuses_writes() {
    const before = await count(prefix);
    const tx = await client.transaction("read");
    assert.equal(Number((await tx.execute(`SELECT count(*) FROM ${prefix}`)).rows[0][0]), before);
    await assert.rejects(tx.execute(`INSERT INTO ${prefix} (name) VALUES ('sneaked')`), (e) => typeof e.code === "string");
    tx.close();
    assert.equal(await count(prefix), before);
  },

  async a_deferred_transaction_reads_then_writes() {
    const tx = await client.transaction("deferred");
    const seen = Number((await tx.execute(`SELECT count(*) FROM ${prefix}`)).rows[0][0]);
    await tx.execute(`INSERT INTO ${prefix} (name) VALUES ('deferred')`);
    await tx.commit();
    assert.equal(await count(prefix), seen + 1);
  },

  async several_statements_in_one_text() {
    await client.executeMultiple(`
      -- a comment; with a semicolon
      INSERT INTO ${prefix} (name) VALUES ('m1');
      INSERT INTO ${prefix} (name) VALUES ('m;2');
    `);
    assert.equal((await rows(`SELECT 1 FROM ${prefix} WHERE name IN ('m1', 'm;2')`)).length, 2);
  },

  async a_migration_that_rebuilds_a_parent_keeps_its_children() {
    const [[parent]] = await rows(`SELECT id FROM ${prefix} WHERE name = 'one'`);
    await client.execute({ sql: `INSERT INTO ${prefix}_child (parent) VALUES (?)`, args: [parent] });
    await client.migrate([
      `DROP VIEW ${prefix}_names`,
      `CREATE TABLE ${prefix}_new (id INTEGER PRIMARY KEY, name TEXT UNIQUE, body ANY, n INTEGER, must TEXT NOT NULL DEFAULT 'x', more TEXT)`,
      `INSERT INTO ${prefix}_new SELECT id, name, body, n, must, NULL FROM ${prefix}`,
      `DROP TABLE ${prefix}`,
      `ALTER TABLE ${prefix}_new RENAME TO ${prefix}`,
    ]);
    assert.equal(await count(`${prefix}_child`), 1);
    await fails(() => client.execute(`INSERT INTO ${prefix}_child (parent) VALUES (4711)`), "SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_FOREIGNKEY");
    await client.execute({ sql: `DELETE FROM ${prefix} WHERE id = ?`, args: [parent] });
    assert.equal(await count(`${prefix}_child`), 0, "the cascade is back on");
  },

  async many_clients_at_once() {
    const before = await count(prefix);
    const inserts = Array.from({ length: 60 }, (_, i) =>
      client.execute({ sql: `INSERT INTO ${prefix} (name) VALUES (?)`, args: [`par${i}`] }));
    const ids = (await Promise.all(inserts)).map((r) => r.lastInsertRowid);
    assert.equal(new Set(ids).size, 60, "each insert has an id of its own");
    assert.equal(await count(prefix), before + 60);
  },

  async a_write_shows_to_the_next_read() {
    for (let i = 0; i < 50; i++) {
      const sql = `INSERT INTO ${prefix} (name) VALUES (?) RETURNING id`;
      const [[id]] = await rows(sql, [`ryw${i}`]);
      assert.deepEqual(await rows(`SELECT name FROM ${prefix} WHERE id = ?`, [id]), [[`ryw${i}`]]);
    }
  },
};

if (otherUrl) {
  tests.a_write_shows_on_the_other_node = async () => {
    const other = createClient({ url: otherUrl, intMode: "bigint" });
    const { lastInsertRowid } = await other.execute(`INSERT INTO ${prefix} (name) VALUES ('from the other')`);
    const deadline = Date.now() + 10_000;
    let seen = [];
    while (seen.length === 0 && Date.now() < deadline) {
      seen = await rows(`SELECT name FROM ${prefix} WHERE id = ?`, [lastInsertRowid]);
    }
    assert.deepEqual(seen, [["from the other"]]);
    other.close();
  };
}

let failed = 0;
for (const [test, run] of Object.entries(tests)) {
  try {
    await run();
    console.log(`ok   javascript ${name} ${test}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL javascript ${name} ${test}: ${error.stack}`);
  }
}
client.close();
numbers.close();
process.exit(failed ? 1 : 0);
