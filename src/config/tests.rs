use std::io;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::acknowledge::Level;
use crate::engine::{self, DatabaseOptions, Role, WorkingCopy};

fn no_files(_: &Path) -> io::Result<String> {
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn sources<'a>(file: &str) -> Sources<'a> {
    Sources {
        file: Some(("s.toml".into(), file.into())),
        environment: Vec::new(),
        flags: Vec::new(),
        host: "here".into(),
        read: &no_files,
    }
}

fn load(file: &str) -> Config {
    Config::load(&sources(file)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems of a file, one line each.
fn wrong(file: &str) -> String {
    match Config::load(&sources(file)) {
        Ok(_) => panic!("this was accepted:\n{file}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn without_a_file_there_is_one_writer_with_the_engines_defaults() {
    let config = load("");
    let database = &config.databases[0];
    assert!(database.default);
    let meant = database.options(&config, "http://127.0.0.1:8080", false);
    let engine = DatabaseOptions::writer("syncline-data/main.db");
    assert_eq!(meant.name, engine.name);
    assert_eq!(meant.node, "here");
    assert_eq!(meant.backing.to_string(), engine.backing.to_string());
    assert_eq!(meant.role, Role::Writer);
    assert_eq!(meant.acknowledge, engine.acknowledge);
    assert_eq!(meant.lease, engine.lease);
    assert_eq!(meant.readers, engine.readers);
    let timers = |o: &DatabaseOptions| (o.flush_every, o.check_every, o.full_every);
    assert_eq!(timers(&meant), timers(&engine));
    let log = |o: &DatabaseOptions| (o.log_keep_for, o.log_keep_size, o.reader_expiry);
    assert_eq!(log(&meant), log(&engine));
    assert_eq!(format!("{:?}", meant.limits), format!("{:?}", engine::Limits::default()));
    let http = crate::api::HttpLimits::default();
    assert_eq!(format!("{:?}", config.limits.http), format!("{http:?}"));
}

#[test]
fn a_reader_is_read_as_written() {
    let config = load(
        r#"
        [node]
        name = "r1"
        data_dir = "/data/r1"
        hosts = ["r1.example", "r1"]
        listen = "[::1]:9000"
        [limits]
        statement = "2s"
        response_rows = 5
        [databases.orders]
        preset = "readers"
        role = "reader"
        backing = "sqlite:/data/orders.db"
        working_copy = "memory"
        writer = "http://127.0.0.1:8080/"
        [databases.orders.heal]
        check_every = "250ms"
        full = "always"
        [databases.orders.log]
        keep_size = "1GiB"
        "#,
    );
    let options = config.databases[0].options(&config, "x", true);
    assert_eq!(options.role, Role::Reader);
    assert_eq!(options.working_copy, WorkingCopy::Memory);
    assert_eq!(options.backing.file(), Some(Path::new("/data/orders.db")));
    assert_eq!(options.writer.as_deref(), Some("http://127.0.0.1:8080"));
    assert_eq!(options.check_every, Duration::from_millis(250));
    assert_eq!(options.limits.response_rows, 5);
    assert_eq!(options.log_keep_size, 1 << 30);
    assert!(options.take_over);
    assert_eq!(config.node.hosts, ["r1.example", "r1"]);
    assert_eq!(config.node.listen, Address { host: "::1".into(), port: 9000 });
}

#[test]
fn flags_stand_over_the_environment_and_the_environment_over_the_file() {
    let mut from =
        sources("[node]\nname = 'file'\nlisten = '127.0.0.1:1'\nadmin_listen = '127.0.0.1:2'");
    from.environment = vec![
        ("SYNCLINE__NODE__LISTEN".into(), "127.0.0.1:3".into()),
        ("SYNCLINE__NODE__ADMIN_LISTEN".into(), "127.0.0.1:4".into()),
        ("SYNCLINE__DATABASES__MAIN__HEAL__CHECK_EVERY".into(), "7s".into()),
        ("SYNCLINE_URL".into(), "http://not.ours".into()),
    ];
    from.flags = vec![Flag {
        flag: "--admin-listen",
        key: "node.admin_listen",
        value: "127.0.0.1:5".into(),
    }];
    let config = Config::load(&from).unwrap();
    assert_eq!(config.node.name, "file");
    assert_eq!(config.node.listen.port, 3);
    assert_eq!(config.node.admin_listen.port, 5);
    assert_eq!(config.databases[0].check_every, Duration::from_secs(7));
    let shown = config.written.show();
    for line in
        ["# s.toml:2", "# environment SYNCLINE__NODE__LISTEN", "# flag --admin-listen", "# default"]
    {
        assert!(shown.contains(line), "{line} is missing in\n{shown}");
    }
}

#[test]
fn the_environment_finds_a_database_whose_name_has_capitals_and_dashes() {
    let mut from = sources("[databases.Big-Orders]\nbacking = 'sqlite:b.db'");
    let variable = "SYNCLINE__DATABASES__BIG_ORDERS__ACKNOWLEDGE";
    from.environment = vec![(variable.into(), "memory".into())];
    let config = Config::load(&from).unwrap();
    assert_eq!(config.databases.len(), 1);
    assert_eq!(config.databases[0].acknowledge, Level::Memory);
}

#[test]
fn what_is_shown_can_be_used_again() {
    let first = load(
        "[databases.a]\ndefault = true\n[databases.b]\nacknowledge = 'memory'\nread_connections = 2",
    );
    let again = load(&first.written.show());
    let plain = |config: &Config| -> Vec<String> {
        config
            .written
            .show()
            .lines()
            .map(|line| line.split("  #").next().unwrap().trim().into())
            .collect()
    };
    assert_eq!(plain(&first), plain(&again));
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let mut from = sources("[auth]\njwt_key_file = '/run/key'");
    from.read = &|path| {
        assert_eq!(path, Path::new("/run/key"));
        Ok("s3cret\n".into())
    };
    let mut problems = Vec::new();
    let shown = Written::merge(&from, &mut problems).show();
    assert!(problems.is_empty() && shown.contains("jwt_key = \"(hidden)\""), "{shown}");
    assert!(!shown.contains("s3cret"));
    let missing = wrong("[auth]\njwt_key_file = '/nowhere'");
    assert!(missing.contains("CONFIG_UNREADABLE") && missing.contains("s.toml:2"), "{missing}");
    let twice = wrong("[auth]\njwt_key = 'a-secret'\njwt_key_file = '/run/key'");
    assert!(twice.contains("CONFIG_CONFLICT") && !twice.contains("a-secret"), "{twice}");
}

#[test]
fn a_password_in_a_url_stays_hidden_when_it_is_refused() {
    let refused = wrong("[databases.main]\nbacking = 'postgres://u:pass@h/db?sslmode=never'");
    assert!(refused.contains("CONFIG_INVALID") && !refused.contains("pass"), "{refused}");
    let refused = wrong("[databases.main]\nbacking = 'mysql://u:pass@h/db'");
    assert!(refused.contains("CONFIG_INVALID") && !refused.contains("pass"), "{refused}");
}

#[test]
fn every_problem_is_reported_with_its_line() {
    let all = wrong(
        "[node]\nlistn = 'x'\n[databases.main.heal]\ncheck_every = 40\nfull_every = '5 weeks'\n[nodes]\na = 1\n",
    );
    insta::assert_snapshot!(all, @r#"
    error: node.listn is not a key (s.toml:2) (CONFIG_UNKNOWN_KEY)
      hint: did you mean node.listen?
    error: nodes is not a key (s.toml:6) (CONFIG_UNKNOWN_KEY)
      hint: did you mean node?
    error: databases.main.heal.check_every cannot be 40 (s.toml:4) (CONFIG_INVALID)
      hint: write a number above zero and a unit: "250ms", "40s", "5m", "24h", "7d"
    error: databases.main.heal.full_every cannot be "5 weeks" (s.toml:5) (CONFIG_INVALID)
      hint: write a number above zero and a unit: "250ms", "40s", "5m", "24h", "7d"
    "#);
}

/// Each line of the table: a file, and the words that its refusal must hold.
#[test]
fn what_cannot_work_is_refused_with_a_reason_and_a_way_out() {
    let cases: &[(&str, &[&str])] = &[
        ("[node", &["CONFIG_SYNTAX", "s.toml:1"]),
        ("[databases.v2]", &["CONFIG_DATABASE_NAME", "HTTP interface"]),
        ("[databases.Health]", &["CONFIG_DATABASE_NAME"]),
        ("[databases.'a/b']", &["CONFIG_DATABASE_NAME", "URL"]),
        ("[databases.a]\ndefault = true\n[databases.b]\ndefault = true", &["a and b", "keep one"]),
        (
            "[databases.a]\nbacking = 'sqlite:x.db'\n[databases.b]\nbacking = 'sqlite:x.db'",
            &["x.db"],
        ),
        ("[databases.main]\npreset = 'leader'", &["CONFIG_NOT_YET", "readers"]),
        ("[databases.main]\npreset = 'quorum'", &["CONFIG_NOT_YET", "consensus"]),
        ("[databases.main]\npreset = 'writers'", &["CONFIG_NOT_YET"]),
        ("[databases.main]\npreset = 'relay'", &["CONFIG_NOT_YET"]),
        ("[databases.main]\npreset = 'reader'", &["CONFIG_INVALID", "readers, leader"]),
        ("[databases.main]\nacknowledge = 'quorum'\norder = 'clock'", &["CONFIG_CONFLICT", "raft"]),
        ("[databases.main]\ntopology = 'ring'", &["CONFIG_CONFLICT", "shared", "pull"]),
        ("[databases.main]\nmerge = 'last-writer'", &["CONFIG_CONFLICT", "nothing to merge"]),
        ("[databases.main]\nship = 'queue'", &["CONFIG_NOT_YET", "shared backing"]),
        ("[databases.main]\norder = 'raft'", &["CONFIG_NOT_YET", "leader"]),
        ("[databases.main]\nacknowledge = { followers = 1 }", &["CONFIG_CONFLICT", "followers(1)"]),
        ("[databases.main]\nacknowledge = { follower = 1 }", &["CONFIG_INVALID", "followers = 1"]),
        ("[databases.main]\nacknowledge = 'all'", &["CONFIG_CONFLICT", "disk"]),
        ("[databases.main]\nacknowledge = 'quorum'", &["CONFIG_CONFLICT", "disk"]),
        ("[databases.main]\nrole = 'reader'", &["CONFIG_MISSING", "what the writer has"]),
        (
            "[databases.main]\nrole = 'follower'\nbacking = 'sqlite:a'",
            &["CONFIG_CONFLICT", "reader"],
        ),
        (
            "[databases.main]\nwriter = 'http://h:1'",
            &["CONFIG_CONFLICT", "this node is the writer"],
        ),
        (
            "[databases.main]\nrole = 'reader'\nbacking = 'sqlite:a'\nwriter = 'https://h:1'",
            &["CONFIG_INVALID", "https is not in this version"],
        ),
        ("[databases.main.heal]\nfull_every = '10s'", &["CONFIG_CONFLICT", "full_every"]),
        ("[databases.main.log]\nkeep_size = '0MiB'", &["CONFIG_INVALID", "above zero"]),
        ("[node]\norigins = [1]", &["CONFIG_INVALID", "node.origins"]),
        ("[limits]\nqueue = -1", &["CONFIG_INVALID", "above zero"]),
        ("[limits]\nstatement = true", &["CONFIG_INVALID"]),
        ("[tls]\nmode = 'files'", &["CONFIG_MISSING", "tls.cert", "tls.key"]),
        ("[tls]\nmode = 'files'\ncert = 'c'\nkey = 'k'", &["CONFIG_NOT_YET", "external"]),
        ("[auth]\nmode = 'tokens'\ntokens_file = 't'", &["CONFIG_NOT_YET", "proxy"]),
        ("[auth]\nmode = 'jwt'", &["CONFIG_NOT_YET"]),
        ("[auth]\ntokens_file = 't'", &["CONFIG_CONFLICT", "auth.mode = \"tokens\""]),
        ("[tls]\nmode = 'external'\ncert = 'c'", &["CONFIG_CONFLICT", "tls.mode = \"files\""]),
        ("[node]\nlisten = '127.0.0.1'", &["CONFIG_INVALID", "HOST:PORT"]),
        ("[node]\nlisten = '127.0.0.1:8079'", &["CONFIG_CONFLICT", "port of their own"]),
        ("[node]\nlisten = '0.0.0.0:8080'", &["CONFIG_OPEN_DOOR", "node.listen"]),
        ("[node]\nadmin_listen = '10.0.0.1:8079'", &["CONFIG_OPEN_DOOR", "node.admin_listen"]),
        ("[node]\nlisten = '[::]:8080'\n[tls]\nmode = 'external'", &["CONFIG_OPEN_DOOR"]),
        ("[node]\nlisten = 'db.example:8080'\n[auth]\nmode = 'none'", &["CONFIG_OPEN_DOOR"]),
    ];
    for (file, words) in cases {
        let refusal = wrong(file);
        for word in *words {
            assert!(refusal.contains(word), "{file:?} does not say {word:?}:\n{refusal}");
        }
    }
}

#[test]
fn an_open_door_is_somebodys_decision() {
    let said = "[auth]\nmode = 'none'\n[tls]\nmode = 'external'\n[node]\nlisten = '0.0.0.0:8080'";
    let refusal = wrong(said);
    assert!(refusal.contains("CONFIG_MISSING") && refusal.contains("node.advertise"), "{refusal}");
    load(&format!("{said}\nadvertise = 'http://db.example:8080'"));
}

#[test]
fn every_default_can_be_read_and_every_key_is_explained() {
    for key in keys::KEYS {
        assert!(key.about.ends_with('.') || key.about.ends_with('?'), "{}", key.path);
    }
    assert!(reference().contains("## [databases.NAME.heal]"));
}

#[test]
fn a_gateway_is_open_to_others_only_behind_tls_and_tokens_or_by_decision() {
    let problems = |file: &str| match Config::load_gateway(&sources(file)) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    };
    let open = |rest: &str| problems(&format!("[node]\nlisten = '0.0.0.0:9'\n{rest}"));
    let tls = "[tls]\nmode = 'files'\ncert = 'c.pem'\nkey = 'k.pem'\n";
    let tokens = "[auth]\nmode = 'tokens'\ntokens_file = 't'\n";
    let none = "[auth]\nmode = 'none'\n";
    let proxy = "[tls]\nmode = 'external'\n";
    for refused in ["", tls, tokens, none, proxy, &format!("{tls}{none}")] {
        assert!(open(refused).contains("CONFIG_OPEN_DOOR"), "{refused}");
    }
    for accepted in [[tls, tokens], [proxy, tokens], [proxy, none]] {
        assert_eq!(open(&accepted.concat()), "", "{accepted:?}");
    }
    for here in ["", tls, tokens, proxy] {
        assert_eq!(problems(here), "", "{here}");
    }
    assert!(problems("[auth]\nmode = 'tokens'").contains("auth.tokens_file is missing"));
    assert!(problems("[auth]\nmode = 'jwt'").contains("CONFIG_NOT_YET"));
    assert!(problems(&format!("{tls}ca = 'x'")).contains("CONFIG_NOT_YET"));
}
