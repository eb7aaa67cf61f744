//! Values: equality, and where random ones come from.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::change::{Value, ValueRef};

/// Any value, with a liking for the edges of each class.
pub(super) fn value() -> impl Strategy<Value = Value> {
    let edges = prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(1), Just(i64::MAX)];
    let reals = prop_oneof![Just(0.0), Just(-0.0), Just(f64::NAN), Just(-f64::NAN), Just(1.0)];
    prop_oneof![
        2 => Just(Value::Null),
        1 => edges.prop_map(Value::Integer),
        1 => any::<i64>().prop_map(Value::Integer),
        1 => reals.prop_map(Value::Real),
        1 => any::<u64>().prop_map(|bits| Value::Real(f64::from_bits(bits))),
        2 => ".{0,12}".prop_map(Value::Text),
        2 => vec(any::<u8>(), 0..20).prop_map(Value::Blob),
    ]
}

pub(super) fn row() -> impl Strategy<Value = Vec<Value>> {
    vec(value(), 0..6)
}

pub(super) fn borrowed(row: &[Value]) -> Vec<ValueRef<'_>> {
    row.iter().map(Value::as_ref).collect()
}

#[test]
fn value_equality_is_by_class_and_normalised() {
    use Value::*;
    assert_eq!(Real(0.0), Real(-0.0));
    assert_eq!(Real(f64::NAN), Real(-f64::NAN));
    assert_ne!(Integer(1), Real(1.0));
    assert_ne!(Text("a".into()), Blob(b"a".into()));
    assert_ne!(Null, Blob(Vec::new()));
    assert_eq!(Null, Null);
}

proptest! {
    #[test]
    fn value_survives_borrowing(value in value()) {
        prop_assert_eq!(value.as_ref().to_owned(), value);
    }
}
