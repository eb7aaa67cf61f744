//! Foreign keys: nothing cascades, and rows that wait for others say so.

use syncline::endpoint::OnDelete;
use syncline::error::Kind;

use super::*;

const FAMILY: &str = "CREATE TABLE parents (id int PRIMARY KEY, name varchar(9) UNIQUE, v int);
    CREATE TABLE gone (id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE);
    CREATE TABLE nulled (id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE SET NULL);
    CREATE TABLE kept (id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES parents (id));
    CREATE TABLE named (id int PRIMARY KEY, name varchar(9), FOREIGN KEY (name) REFERENCES parents (name) ON UPDATE CASCADE);
    INSERT INTO parents VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0), (4, 'd', 0), (5, 'e', 0), (6, 'f', 0);
    INSERT INTO gone VALUES (1, 1); INSERT INTO nulled VALUES (1, 2); INSERT INTO kept VALUES (1, 3); INSERT INTO named VALUES (1, 'd')";

fn id(plan: &Plan, id: i64) -> Key {
    row(plan, &vec![Value::Integer(id); plan.columns.len()]).0
}

fn parent(plan: &Plan, id: i64, name: &str, v: i64) -> (Key, Row) {
    row(plan, &[Value::Integer(id), text(name), Value::Integer(v)])
}

#[test]
fn foreign_keys_are_described() {
    let Some((_, _, mut b)) = made(FAMILY) else { return };
    for (name, on_delete) in [
        ("gone", OnDelete::Cascade),
        ("nulled", OnDelete::Cascade),
        ("kept", OnDelete::Refuse),
        ("named", OnDelete::Refuse),
    ] {
        let table = table(&mut b, name);
        let [key] = &table.foreign_keys[..] else { panic!("{:?}", table.foreign_keys) };
        assert_eq!((key.parent.as_str(), key.on_delete), ("parents", on_delete), "{name}");
    }
    assert_eq!(table(&mut b, "parents").unique, [["name"]]);
}

/// Tables may be made in any order; their references hold once both are there.
#[test]
fn a_child_may_be_made_before_its_parent() {
    let Some((_, _, mut a)) = made(FAMILY) else { return };
    let Some((_, _, mut b)) = made("") else { return };
    for name in ["kept", "parents"] {
        let statements = b.create_statements(&[table(&mut a, name)]).unwrap();
        b.create(&statements).unwrap();
    }
    let plan = plan(&mut b, "kept");
    let error = put(&mut b, &plan, &[row(&plan, &[Value::Integer(9), Value::Integer(77)])]);
    assert_eq!(error.unwrap_err().code(), "PARENT_MISSING");
}

#[test]
fn a_delete_that_would_reach_further_is_refused() {
    let Some((server, url, mut b)) = made(FAMILY) else { return };
    let plan = plan(&mut b, "parents");
    let before = server.dump(name_in(&url));
    for doomed in [1, 2, 3, 4] {
        // Beside one that nobody refers to, which must then stay, too.
        let error = delete(&mut b, &plan, &[id(&plan, 5), id(&plan, doomed)]).unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Behind, "CASCADE_REFUSED"),
            "{doomed}: {error}"
        );
    }
    let rows = |dump: String| dump.lines().filter(|l| !l.starts_with("--")).collect::<String>();
    assert_eq!(rows(server.dump(name_in(&url))), rows(before));
    for child in ["gone", "nulled", "kept", "named"] {
        let plan = self::plan(&mut b, child);
        assert_eq!(delete(&mut b, &plan, &[id(&plan, 1)]).unwrap().deleted, 1);
    }
    let every: Vec<Key> = (1..=6).map(|n| id(&plan, n)).collect();
    assert_eq!(delete(&mut b, &plan, &every).unwrap().deleted, 6);
}

#[test]
fn a_child_waits_for_its_parent() {
    let Some((_, _, mut b)) = made(FAMILY) else { return };
    let kept = plan(&mut b, "kept");
    let orphan = row(&kept, &[Value::Integer(9), Value::Integer(77)]);
    let error = put(&mut b, &kept, std::slice::from_ref(&orphan)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Behind, "PARENT_MISSING"), "{error}");
    let parents = plan(&mut b, "parents");
    put(&mut b, &parents, &[parent(&parents, 77, "z", 0)]).unwrap();
    assert_eq!(put(&mut b, &kept, &[orphan]).unwrap().inserted, 1);
}

#[test]
fn an_update_that_children_would_follow_is_refused() {
    let Some((server, url, mut b)) = made(FAMILY) else { return };
    let plan = plan(&mut b, "parents");
    let error = put(&mut b, &plan, &[parent(&plan, 4, "new", 0)]).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Behind, "CASCADE_REFUSED"), "{error}");
    assert_eq!(server.sql(name_in(&url), "SELECT name FROM named"), "d\n");
    // Other columns of the same row may change, and so may a name that nobody refers to.
    let free = [parent(&plan, 4, "d", 7), parent(&plan, 5, "new", 0)];
    assert_eq!(put(&mut b, &plan, &free).unwrap().updated, 2);
}

/// Also between rows that others refer to, which do not notice; but not values that others refer to.
#[test]
fn unique_values_change_places_and_nobody_follows() {
    let Some((server, url, mut b)) = made(FAMILY) else { return };
    let plan = plan(&mut b, "parents");
    let swapped = [parent(&plan, 5, "f", 0), parent(&plan, 6, "e", 0)];
    assert_eq!(put(&mut b, &plan, &swapped).unwrap().updated, 2);
    let around = [(1, "b"), (2, "c"), (3, "a")].map(|(id, name)| parent(&plan, id, name, 1));
    assert_eq!(put(&mut b, &plan, &around).unwrap().updated, 3);
    for rule in ["CASCADE", "RESTRICT"] {
        let again = format!(
            "ALTER TABLE named DROP FOREIGN KEY named_ibfk_1; \
             ALTER TABLE named ADD CONSTRAINT named_ibfk_1 FOREIGN KEY (name) REFERENCES parents (name) ON UPDATE {rule}"
        );
        server.sql(name_in(&url), &again);
        let swapped = [parent(&plan, 3, "d", 0), parent(&plan, 4, "a", 0)];
        let error = put(&mut b, &plan, &swapped).unwrap_err();
        assert_eq!(error.code(), "CASCADE_REFUSED", "{rule}: {error}");
    }
    let left = "SELECT group_concat(name ORDER BY id) FROM parents; SELECT parent FROM gone; SELECT parent FROM nulled;
        SELECT parent FROM kept; SELECT name FROM named";
    assert_eq!(server.sql(name_in(&url), left), "b,c,a,d,f,e\n1\n2\n3\nd\n");
}

const TREE: &str = "CREATE TABLE tree (id int PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES tree (id) ON DELETE RULE)";

/// A table that refers to itself: whole families come and go in one batch, in whatever order their keys are.
#[test]
fn families_within_one_table_come_and_go() {
    for rule in ["RESTRICT", "CASCADE"] {
        let Some((_, _, mut b)) = made(&TREE.replace("RULE", rule)) else { return };
        let plan = plan(&mut b, "tree");
        let node = |id, up: Option<i64>| {
            row(&plan, &[Value::Integer(id), up.map_or(Value::Null, Value::Integer)])
        };
        let family =
            [node(1, Some(5)), node(2, Some(1)), node(3, Some(3)), node(5, None), node(6, Some(2))];
        assert_eq!(put(&mut b, &plan, &family).unwrap().inserted, 5);
        assert_eq!(all(&mut b, &plan), family);
        let keys: Vec<Key> = family.iter().map(|(key, _)| key.clone()).collect();
        let error = delete(&mut b, &plan, &[keys[3].clone(), keys[0].clone(), keys[1].clone()])
            .unwrap_err();
        assert_eq!(error.code(), "CASCADE_REFUSED", "6 would go with 2: {error}");
        assert_eq!(all(&mut b, &plan), family);
        assert_eq!(delete(&mut b, &plan, &keys).unwrap().deleted, 5, "{rule}");
        let error = put(&mut b, &plan, &[node(8, Some(9)), node(7, None)]).unwrap_err();
        assert_eq!(error.code(), "PARENT_MISSING", "{error}");
        assert_eq!(all(&mut b, &plan), []);
    }
}
