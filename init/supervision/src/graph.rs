//! The order that needs impose.

use std::{collections::BTreeMap, fmt};

/// Needs that cannot be put in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GraphError {
    /// Somebody needs what there is not.
    Unknown {
        /// Who.
        who: String,
        /// What.
        what: String,
    },
    /// Each of these needs the next; the last is the first again. `["a", "a"]` needs itself.
    Cycle(Vec<String>),
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { who, what } => {
                write!(f, "`{who}` needs `{what}`, which is not there")
            }
            Self::Cycle(chain) => match &chain[..] {
                [who, _] => write!(f, "`{who}` needs itself"),
                _ => write!(f, "each needs the next: {}", chain.join(" → ")),
            },
        }
    }
}

impl std::error::Error for GraphError {}

/// All names so that each comes after what it needs; where needs leave a choice, in alphabetical order.
///
/// Neither recursive nor quadratic: however long a chain is, it is only data.
pub fn order<'a>(needs: &BTreeMap<&'a str, Vec<&'a str>>) -> Result<Vec<&'a str>, GraphError> {
    let mut order = Vec::with_capacity(needs.len());
    // 0 for unseen, else 1 + its place on the path; usize::MAX when it is in `order`.
    let mut marks: BTreeMap<&str, usize> = BTreeMap::new();
    for &start in needs.keys() {
        // The path from `start`, each with the number of its needs that have been looked at.
        let mut path: Vec<(&'a str, usize)> = Vec::new();
        if marks.get(start) != Some(&usize::MAX) {
            path.push((start, 0));
            marks.insert(start, 1);
        }
        while let Some((name, looked_at)) = path.last_mut() {
            let name = *name;
            let Some(&next) = needs[name].get(*looked_at) else {
                marks.insert(name, usize::MAX);
                order.push(name);
                path.pop();
                continue;
            };
            *looked_at += 1;
            if !needs.contains_key(next) {
                return Err(GraphError::Unknown {
                    who: name.to_owned(),
                    what: next.to_owned(),
                });
            }
            match marks.get(next) {
                Some(&usize::MAX) => {}
                Some(&place) => {
                    let chain = path[place - 1..].iter().map(|(name, _)| *name);
                    let chain = chain.chain([next]).map(str::to_owned).collect();
                    return Err(GraphError::Cycle(chain));
                }
                None => {
                    path.push((next, 0));
                    marks.insert(next, path.len());
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ordered(needs: &[(&'static str, &[&'static str])]) -> Result<Vec<&'static str>, GraphError> {
        order(
            &needs
                .iter()
                .map(|(name, needs)| (*name, needs.to_vec()))
                .collect(),
        )
    }

    #[test]
    fn what_is_needed_comes_first() {
        let order = ordered(&[
            ("web", &["db", "cache"]),
            ("db", &[]),
            ("cache", &["db"]),
            ("a", &[]),
        ]);
        assert_eq!(order.unwrap(), ["a", "db", "cache", "web"]);
    }

    #[test]
    fn a_cycle_is_shown_as_the_chain_that_it_is() {
        let error = ordered(&[("z", &["a"]), ("a", &["b"]), ("b", &["c"]), ("c", &["a"])]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "each needs the next: a → b → c → a"
        );
        let error = ordered(&[("a", &["a"])]);
        assert_eq!(error.unwrap_err().to_string(), "`a` needs itself");
        let error = ordered(&[("a", &["b"])]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "`a` needs `b`, which is not there"
        );
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_does_not_exhaust_the_stack() {
        let names: Vec<String> = (0..100_000).map(|number| format!("{number:06}")).collect();
        let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (index, name) in names.iter().enumerate() {
            needs.insert(
                name,
                names.get(index + 1).map(|n| &**n).into_iter().collect(),
            );
        }
        assert_eq!(order(&needs).unwrap()[0], "099999");
    }

    proptest! {
        /// Every graph is either ordered, or refused with a chain that really is one.
        #[test]
        fn an_order_or_a_true_cycle(edges in prop::collection::vec((0_usize..8, 0_usize..8), 0..20)) {
            let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let mut needs: BTreeMap<&str, Vec<&str>> = names.iter().map(|name| (*name, Vec::new())).collect();
            for (from, to) in edges {
                needs.get_mut(names[from]).unwrap().push(names[to]);
            }
            match order(&needs) {
                Ok(order) => {
                    prop_assert_eq!(order.len(), names.len());
                    for (place, name) in order.iter().enumerate() {
                        for need in &needs[name] {
                            prop_assert!(order[..place].contains(need));
                        }
                    }
                }
                Err(GraphError::Cycle(chain)) => {
                    prop_assert_eq!(chain.first(), chain.last());
                    for pair in chain.windows(2) {
                        prop_assert!(needs[&*pair[0]].contains(&&*pair[1]));
                    }
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
