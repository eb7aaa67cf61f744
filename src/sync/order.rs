//! The order of tables: parents before children.

use super::pair::Pair;

/// The places of the pairs so that each comes after those it refers to, in B. Tables that refer to each other in
/// a circle come last, as they stand: what of theirs must wait is tried again.
pub fn parents_first(pairs: &[Pair]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(pairs.len());
    let refers = |child: &Pair, parent: &Pair| {
        let to_parent =
            |key: &crate::endpoint::ForeignKey| key.parent.eq_ignore_ascii_case(&parent.b.name);
        child.b.name != parent.b.name && child.b.foreign_keys.iter().any(to_parent)
    };
    while order.len() < pairs.len() {
        let is_free = |at: &usize| {
            let waits =
                (0..pairs.len()).any(|p| !order.contains(&p) && refers(&pairs[*at], &pairs[p]));
            !order.contains(at) && !waits
        };
        match (0..pairs.len()).find(is_free) {
            Some(at) => order.push(at),
            None => {
                let rest: Vec<usize> = (0..pairs.len()).filter(|at| !order.contains(at)).collect();
                order.extend(rest);
            }
        }
    }
    order
}
