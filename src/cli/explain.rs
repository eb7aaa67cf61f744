//! `explain`: what a policy promises, and what each failure costs.
//!
//! A pure function from a database as configured to sentences. They are promises to operators, so
//! each must follow from the mechanism: nothing is said here that `docs/guarantees.md` does not
//! argue, and nothing is rounded up.
//!
//! Left out: the presets that are not in this version.

use serde_json::json;

use super::arguments::Explain;
use super::configure;
use super::exit::{Exit, Failure, Outcome};
use crate::acknowledge::Level;
use crate::config::units::{show_duration, show_size};
use crate::config::{Config, Database};
use crate::engine::{BackingPlace, FullMode, OnRestore, Role, WorkingCopy};

/// What is said of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Explanation {
    database: String,
    role: &'static str,
    answers: Vec<Answer>,
    promises: Vec<String>,
    failures: Vec<Cost>,
}

/// One of the five questions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    question: &'static str,
    answer: String,
    means: String,
}

/// What a failure costs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cost {
    failure: &'static str,
    lost: String,
    meanwhile: String,
    then: String,
}

/// Explains every database of a configuration, or one.
pub fn run(arguments: &Explain) -> Outcome {
    let config = configure::load(arguments.config.as_deref(), Vec::new())?;
    for database in chosen(&config, arguments.database.as_deref())? {
        let explanation = explain(database);
        print!("{}", if arguments.json { lines(&explanation) } else { words(&explanation) });
    }
    Ok(Exit::Yes)
}

fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Result<Vec<&'a Database>, Failure> {
    let found: Vec<&Database> =
        config.databases.iter().filter(|db| name.is_none_or(|name| db.name == name)).collect();
    if found.is_empty() {
        let names: Vec<&str> = config.databases.iter().map(|db| db.name.as_str()).collect();
        let message = format!("the configuration has no database {:?}", name.unwrap_or_default());
        let hint = format!("it has {}", names.join(", "));
        return Err(Failure::new(Exit::Usage, "DATABASE_UNKNOWN", &message, &hint));
    }
    Ok(found)
}

fn explain(db: &Database) -> Explanation {
    Explanation {
        database: db.name.clone(),
        role: db.role.as_str(),
        answers: answers(db),
        promises: promises(db),
        failures: vec![
            writer_process(db),
            writer_disk(db),
            reader(db),
            power(db),
            restore(db),
            backing_away(db),
        ],
    }
}

fn answers(db: &Database) -> Vec<Answer> {
    let answer =
        |question, answer: &str, means: String| Answer { question, answer: answer.into(), means };
    let acknowledged = match db.acknowledge {
        Level::Memory => {
            format!("in the writer's memory, and synced within {}", show_duration(db.flush_every))
        }
        _ => "synced in the backing database".into(),
    };
    let full = match db.full {
        FullMode::Compare => "recounts its rows and compares",
        FullMode::Always => "builds its copy anew",
    };
    vec![
        answer(
            "ORDER",
            "leader",
            "the one writer counts, in an epoch that it took in the backing database".into(),
        ),
        answer(
            "ACKNOWLEDGE",
            &db.acknowledge.to_string(),
            format!("\"done\" is said when a commit is {acknowledged}"),
        ),
        answer(
            "SHIP",
            "shared",
            match db.backing {
                BackingPlace::File(_) => {
                    "readers follow the backing file; a wake-up tells them, and they look by themselves"
                }
                BackingPlace::Server(_) => {
                    "readers follow the backing database; the writer and PostgreSQL tell them, and they look by themselves"
                }
            }
            .into(),
        ),
        answer(
            "MERGE",
            "refuse",
            "there is one writer; a commit that does not fit is a fork, and HEAL's business".into(),
        ),
        answer(
            "HEAL",
            &format!(
                "check {}, full {}",
                show_duration(db.check_every),
                show_duration(db.full_every)
            ),
            format!("a reader looks at least this often, and this often it {full}"),
        ),
    ]
}

fn promises(db: &Database) -> Vec<String> {
    let mut out = vec![match db.acknowledge {
        Level::Memory => format!(
            "An acknowledged commit may be undone within {} of its answer; its receipt says `pending` until it is synced.",
            show_duration(db.flush_every)
        ),
        _ => "An acknowledged commit survives the loss of any process and of power: it was synced before anyone heard of it.".into(),
    }];
    out.push("Commits have one order, without gaps, in all copies; two writers at once cannot both write.".into());
    out.push("A reader shows a state that the writer had, whole commits only, never a mixture; by default perhaps an older one.".into());
    out.push("A read that brings its receipt (`Syncline-Read: after=RECEIPT`) sees that write on any node, or an error.".into());
    out.push("Every copy computes its digest from its own rows; a difference is shown in status and mended, never hidden.".into());
    if db.working_copy == WorkingCopy::Memory {
        out.push(
            "Reads never touch the backing database: the copy that serves them lies in memory."
                .into(),
        );
    }
    out.push("What is undone is held: listed, shown and replayable with `syncline held`.".into());
    out
}

/// What is lost of the acknowledged commits when the writer ends without warning.
fn unsynced(db: &Database) -> String {
    match db.acknowledge {
        Level::Memory => format!(
            "acknowledged commits of the last {}; their receipts answer `undone`",
            show_duration(db.flush_every)
        ),
        _ => "nothing that was acknowledged".into(),
    }
}

fn writer_process(db: &Database) -> Cost {
    Cost {
        failure: "loss of the writer's process",
        lost: unsynced(db),
        meanwhile: "reads go on at the readers, which say how old they may be; writes are refused"
            .into(),
        then: format!(
            "start it again, or `syncline promote` a reader: its lease ends {} after its last word",
            show_duration(db.lease)
        ),
    }
}

fn writer_disk(db: &Database) -> Cost {
    let copies = match (db.role, db.working_copy) {
        (Role::Reader, WorkingCopy::Memory) => {
            "readers with their copy in memory serve it until their process ends"
        }
        _ => "readers with a copy of their own go on serving it",
    };
    Cost {
        failure: "loss of the disk with the backing database",
        lost: "every commit since the last backup: under `readers` this is the one durable log".into(),
        meanwhile: format!("{copies}; writes are refused"),
        then: "put the newest backup in place and start the writer; what readers must undo becomes held, and `syncline held replay` brings it back".into(),
    }
}

fn reader(db: &Database) -> Cost {
    let back = match (db.role, db.working_copy) {
        (Role::Reader, WorkingCopy::Memory) => {
            "it loads the backing database, recounting as it reads".to_string()
        }
        _ => format!(
            "it reads the commits since its position, kept for {} and up to {}; past that it copies in full",
            show_duration(db.keep_for),
            show_size(db.keep_size)
        ),
    };
    Cost {
        failure: "loss of a reader",
        lost: "nothing".into(),
        meanwhile: "its clients go to another node; the writer does not wait for it".into(),
        then: format!(
            "start it: {back}. The log waits for a silent reader for {}",
            show_duration(db.reader_expiry)
        ),
    }
}

fn power(db: &Database) -> Cost {
    let meanwhile = match db.backing {
        BackingPlace::File(_) => {
            "everything on this machine is away: the backing file is shared by its processes only"
        }
        BackingPlace::Server(_) => {
            "what is on this machine is away; PostgreSQL, and readers on other machines, go on"
        }
    };
    Cost {
        failure: "loss of power",
        lost: format!("{}, if the disk keeps what it has synced", unsynced(db)),
        meanwhile: meanwhile.into(),
        then: "start the writer and the readers, in any order".into(),
    }
}

fn restore(db: &Database) -> Cost {
    let (meanwhile, then) = match db.on_restore {
        OnRestore::Stop => (
            "the writer notices by its mark and by readers or receipts that are ahead, and stops writing; reads go on",
            "`syncline resolve --keep backing`, or `--keep node` where the node still has a copy of its own; a new epoch begins, readers follow it",
        ),
        OnRestore::Adopt => (
            "the writer notices, and takes what was restored as the truth at once (on_restore = \"adopt\")",
            "nothing to decide: a new epoch has begun, readers follow it",
        ),
    };
    Cost {
        failure: "a restore from an old backup",
        lost: "the commits after the backup, except where a copy still has them: those are held and can be replayed".into(),
        meanwhile: meanwhile.into(),
        then: then.into(),
    }
}

fn backing_away(db: &Database) -> Cost {
    let meanwhile = match db.role {
        Role::Reader => {
            "this reader serves what it has and says how stale that is; with `max-stale` a read is refused when it is too old"
        }
        Role::Writer if db.backing.file().is_none() => {
            "writes are refused with an error that may be retried; a write whose COMMIT was cut off hears that its outcome is unknown; reads go on"
        }
        Role::Writer => {
            "writes are refused: with no space left until there is some, and after a failed sync the writer stops (exit 5); readers serve what they have"
        }
    };
    Cost {
        failure: "the backing database is away",
        lost: unsynced(db),
        meanwhile: meanwhile.into(),
        then: match db.role {
            Role::Reader => "it catches up by itself".into(),
            Role::Writer if db.backing.file().is_none() => {
                "it goes on by itself: where an outcome was unknown it takes the next epoch first, and takes over what was committed".into()
            }
            Role::Writer => {
                "start the writer again: it begins a new epoch where the last synced commit stands"
                    .into()
            }
        },
    }
}

fn words(explained: &Explanation) -> String {
    let mut out = format!("{}: {} of preset readers\n\n", explained.database, explained.role);
    let wide = explained.answers.iter().map(|a| a.answer.len()).max().unwrap_or(0);
    for Answer { question, answer, means } in &explained.answers {
        out.push_str(&format!("{question:<12} {answer:<wide$}  {means}\n"));
    }
    out.push_str("\nPromised\n");
    for promise in &explained.promises {
        out.push_str(&format!("  - {promise}\n"));
    }
    out.push_str("\nWhat each failure costs\n");
    for Cost { failure, lost, meanwhile, then } in &explained.failures {
        out.push_str(&format!("  {failure}\n    lost:      {lost}\n    meanwhile: {meanwhile}\n    then:      {then}\n"));
    }
    out.push('\n');
    out
}

fn lines(explained: &Explanation) -> String {
    let database = &explained.database;
    let answers = explained.answers.iter().map(|a| {
        json!({"type": "answer", "database": database, "question": a.question, "answer": a.answer, "means": a.means})
    });
    let promises = explained
        .promises
        .iter()
        .map(|text| json!({"type": "promise", "database": database, "text": text}));
    let failures = explained.failures.iter().map(|c| {
        json!({"type": "failure", "database": database, "failure": c.failure, "lost": c.lost, "meanwhile": c.meanwhile, "then": c.then})
    });
    answers.chain(promises).chain(failures).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn database(file: &str) -> Database {
        let sources = Sources {
            file: Some(("s.toml".into(), file.into())),
            environment: Vec::new(),
            flags: Vec::new(),
            host: "here".into(),
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        Config::load(&sources).unwrap_or_else(|e| panic!("{e}")).databases.remove(0)
    }

    fn cost<'a>(explained: &'a Explanation, failure: &str) -> &'a Cost {
        explained.failures.iter().find(|cost| cost.failure == failure).unwrap()
    }

    #[test]
    fn disk_loses_nothing_with_the_process_and_everything_with_the_disk() {
        let explained = explain(&database(""));
        assert_eq!(
            cost(&explained, "loss of the writer's process").lost,
            "nothing that was acknowledged"
        );
        assert!(
            cost(&explained, "loss of the disk with the backing database")
                .lost
                .contains("since the last backup")
        );
    }

    /// Under `memory` a promise of durability would be a lie.
    #[test]
    fn memory_says_what_it_may_lose_and_for_how_long() {
        let explained =
            explain(&database("[databases.main]\nacknowledge = 'memory'\nflush_every = '2s'"));
        for failure in
            ["loss of the writer's process", "loss of power", "the backing database is away"]
        {
            let lost = &cost(&explained, failure).lost;
            assert!(lost.contains("last 2s") && lost.contains("undone"), "{failure}: {lost}");
        }
        assert!(explained.promises[0].contains("may be undone"), "{}", explained.promises[0]);
    }

    #[test]
    fn a_restore_is_decided_by_a_person_unless_the_policy_decided_before() {
        let stop = explain(&database(""));
        let adopt = explain(&database("[databases.main]\non_restore = 'adopt'"));
        let name = "a restore from an old backup";
        assert!(cost(&stop, name).then.contains("syncline resolve"));
        assert!(!cost(&adopt, name).then.contains("syncline resolve"));
    }

    #[test]
    fn a_reader_is_explained_from_its_own_side() {
        let file =
            "[databases.main]\nrole = 'reader'\nbacking = 'sqlite:/x.db'\nworking_copy = 'memory'";
        let explained = explain(&database(file));
        assert!(cost(&explained, "loss of a reader").then.contains("loads the backing database"));
        assert_eq!(
            cost(&explained, "the backing database is away").then,
            "it catches up by itself"
        );
        assert!(words(&explained).contains("main: reader of preset readers"));
    }

    #[test]
    fn json_says_the_same_one_object_a_line() {
        let explained = explain(&database(""));
        let lines = lines(&explained);
        let parsed: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let count = |kind: &str| parsed.iter().filter(|line| line["type"] == kind).count();
        assert_eq!((count("answer"), count("failure")), (5, 6));
        assert_eq!(count("promise"), explained.promises.len());
    }
}
