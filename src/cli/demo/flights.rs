//! The data: flights from New York City in 2013 (see `data/README.md`), and a trickle of writes.
//!
//! The rows go in over HTTP like anybody's. Each request carries a chunk as one JSON argument, which
//! SQLite takes apart with `json_each`: one statement, one commit, thousands of rows. The trickle
//! uses `random()` and the clock: rows are shipped, never statements, so the copies stay equal.

use std::io::Read;

use super::super::exit::{Exit, Failure};
use crate::change::Value;
use crate::client::{Rows, Stream};

/// Rows in one request.
const CHUNK: usize = 2_000;

struct Table {
    name: &'static str,
    columns: &'static str,
    csv: &'static [u8],
}

const TABLES: &[Table] = &[
    Table {
        name: "airlines",
        columns: "carrier TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL",
        csv: include_bytes!("../../../data/airlines.csv.gz"),
    },
    Table {
        name: "airports",
        columns: "faa TEXT PRIMARY KEY NOT NULL, name TEXT, lat REAL, lon REAL, alt INTEGER, \
                  tz INTEGER, dst TEXT, tzone TEXT",
        csv: include_bytes!("../../../data/airports.csv.gz"),
    },
    Table {
        name: "planes",
        columns: "tailnum TEXT PRIMARY KEY NOT NULL, year INTEGER, type TEXT, manufacturer TEXT, \
                  model TEXT, engines INTEGER, seats INTEGER, speed INTEGER, engine TEXT",
        csv: include_bytes!("../../../data/planes.csv.gz"),
    },
    Table {
        name: "weather",
        columns: "origin TEXT, year INTEGER, month INTEGER, day INTEGER, hour INTEGER, temp REAL, \
                  dewp REAL, humid REAL, wind_dir INTEGER, wind_speed REAL, wind_gust REAL, \
                  precip REAL, pressure REAL, visib REAL, time_hour TEXT",
        csv: include_bytes!("../../../data/weather.csv.gz"),
    },
];

const SIGHTINGS: &str = "CREATE TABLE sightings (id INTEGER PRIMARY KEY, tailnum TEXT NOT NULL, \
                         airport TEXT NOT NULL, seen_at TEXT NOT NULL)";

/// What the trickle writes, in turn.
const TRICKLE: &[&str] = &[
    SEEN,
    SEEN,
    SEEN,
    "UPDATE weather SET temp = round(temp + random() % 10 / 10.0, 2) \
     WHERE rowid = abs(random()) % 26115 + 1",
    SEEN,
    "DELETE FROM sightings WHERE id % 7 = abs(random()) % 7 AND id < (SELECT max(id) FROM sightings) - 500",
];

const SEEN: &str = "INSERT INTO sightings (tailnum, airport, seen_at) SELECT \
    (SELECT tailnum FROM planes WHERE rowid = abs(random()) % 3322 + 1), \
    (SELECT faa FROM airports WHERE rowid = abs(random()) % 1458 + 1), \
    strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

/// Creates the tables and loads them; returns the number of rows.
pub async fn load(stream: &mut Stream) -> Result<usize, Failure> {
    let mut total = 0;
    for table in TABLES {
        execute(stream, &format!("CREATE TABLE {} ({})", table.name, table.columns), &[]).await?;
        let rows = table.rows()?;
        for chunk in rows.chunks(CHUNK) {
            let json = Value::Text(serde_json::Value::from(chunk.to_vec()).to_string());
            execute(stream, &table.insert(), &[json]).await?;
        }
        total += rows.len();
    }
    execute(stream, SIGHTINGS, &[]).await?;
    Ok(total)
}

/// Makes the `n`-th write of the trickle.
pub async fn trickle(stream: &mut Stream, n: usize) -> Result<(), Failure> {
    execute(stream, TRICKLE[n % TRICKLE.len()], &[]).await.map(|_| ())
}

async fn execute(stream: &mut Stream, sql: &str, args: &[Value]) -> Result<Rows, Failure> {
    stream.execute(sql, args).await?.map_err(|error| {
        let start: String = sql.chars().take(60).collect();
        let message = format!("{}: {start}…", error.message);
        Failure::new(Exit::No, &error.code, &message, error.hint.as_deref().unwrap_or_default())
    })
}

impl Table {
    /// Each row as a JSON array of texts and nulls; the columns' affinity makes numbers of them.
    fn rows(&self) -> Result<Vec<serde_json::Value>, Failure> {
        let mut text = String::new();
        flate2::read::GzDecoder::new(self.csv).read_to_string(&mut text)?;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let cell = |cell: &str| if cell == "NA" { None } else { Some(cell.to_string()) };
        let row = |record: csv::Result<csv::StringRecord>| -> Result<serde_json::Value, Failure> {
            let record = record.map_err(|e| Failure::from(std::io::Error::other(e)))?;
            Ok(record.iter().map(cell).collect::<Vec<_>>().into())
        };
        reader.records().map(row).collect()
    }

    /// One statement for any number of rows.
    fn insert(&self) -> String {
        let columns = self.columns.split(',').count();
        let cells: Vec<String> = (0..columns).map(|i| format!("value ->> {i}")).collect();
        format!("INSERT INTO {} SELECT {} FROM json_each(?)", self.name, cells.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files, the tables and the statements belong together: plain SQLite takes them all.
    #[test]
    fn the_data_loads_and_the_trickle_runs_on_plain_sqlite() {
        let sqlite = rusqlite::Connection::open_in_memory().unwrap();
        let expected =
            [("airlines", 16), ("airports", 1_458), ("planes", 3_322), ("weather", 26_115)];
        for (table, (name, rows)) in TABLES.iter().zip(expected) {
            sqlite
                .execute_batch(&format!("CREATE TABLE {} ({})", table.name, table.columns))
                .unwrap();
            let json = serde_json::Value::from(table.rows().unwrap()).to_string();
            assert_eq!(sqlite.execute(&table.insert(), [json]).unwrap(), rows, "{name}");
            assert_eq!(table.name, name);
        }
        let query = |sql: &str| sqlite.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(query("SELECT count(*) FROM planes WHERE speed IS NULL"), 3_299);
        assert_eq!(query("SELECT count(*) FROM weather WHERE typeof(temp) = 'real'"), 26_114);
        sqlite.execute_batch(SIGHTINGS).unwrap();
        for sql in TRICKLE {
            sqlite.execute_batch(sql).unwrap();
        }
        assert_eq!(query("SELECT count(*) FROM sightings"), 4);
    }
}
