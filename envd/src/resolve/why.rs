//! Why a package is there: the shortest ways to it from what was asked for.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
};

use super::{Chosen, Resolution};

/// A package with what `why` has to know of it. Both a resolution and a lock can give these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link<'a> {
    /// Package.
    pub name: &'a str,
    /// Version.
    pub version: &'a str,
    /// The requirements, as written, that it answers.
    pub requested: Vec<String>,
    /// Whether it is there as an Essential package.
    pub essential: bool,
    /// Names of the packages that satisfy its needs.
    pub needs: &'a [String],
}

impl<'a> From<&'a Chosen> for Link<'a> {
    fn from(chosen: &'a Chosen) -> Self {
        Self {
            name: &chosen.artifact.name,
            version: &chosen.artifact.version,
            requested: chosen.requested.iter().map(ToString::to_string).collect(),
            essential: chosen.essential,
            needs: &chosen.needs,
        }
    }
}

impl Resolution {
    /// Its packages for [`why`].
    pub fn links(&self) -> Vec<Link<'_>> {
        self.packages.iter().map(Link::from).collect()
    }
}

/// A way to a package.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Chain {
    /// Packages with their versions, from the one that was asked for to the one in question.
    pub packages: Vec<(String, String)>,
    /// Why the first of them is there.
    pub start: Start,
}

/// Why a chain begins.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Start {
    /// Asked for, in these words.
    Requested(Vec<String>),
    /// Essential in the first channel.
    Essential,
}

/// The shortest chain to `name` from each package that was asked for or is Essential, shortest first, what was asked for
/// first among equals. None if there is no such package.
pub fn why(links: &[Link<'_>], name: &str) -> Option<Vec<Chain>> {
    let by_name: BTreeMap<&str, &Link<'_>> = links.iter().map(|link| (link.name, link)).collect();
    by_name.get(name)?;
    let mut needed_by: HashMap<&str, Vec<&str>> = HashMap::new();
    for link in by_name.values() {
        for need in link.needs {
            needed_by.entry(need).or_default().push(link.name);
        }
    }
    // Backwards from the package, each finds the next step towards it; names in order make the choice among equals firm.
    let mut towards: HashMap<&str, Option<&str>> = HashMap::from([(name, None)]);
    let mut queue = VecDeque::from([name]);
    let mut chains = Vec::new();
    while let Some(at) = queue.pop_front() {
        for &from in needed_by.get(at).into_iter().flatten() {
            if !towards.contains_key(from) {
                towards.insert(from, Some(at));
                queue.push_back(from);
            }
        }
        let Some(link) = by_name.get(at) else {
            continue;
        };
        let start = match (&link.requested[..], link.essential) {
            ([], false) => continue,
            ([], true) => Start::Essential,
            (requested, _) => Start::Requested(requested.to_vec()),
        };
        let mut packages = Vec::new();
        let mut step = Some(at);
        while let Some(name) = step {
            let version = by_name.get(name).map_or("", |link| link.version);
            packages.push((name.to_owned(), version.to_owned()));
            step = towards.get(name).copied().flatten();
        }
        chains.push(Chain { packages, start });
    }
    let place = |chain: &Chain| (chain.packages.len(), chain.start == Start::Essential);
    chains.sort_by(|a, b| {
        place(a)
            .cmp(&place(b))
            .then_with(|| a.packages.cmp(&b.packages))
    });
    Some(chains)
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            Start::Requested(texts) => write!(f, "{} (asked for)", texts.join(", "))?,
            Start::Essential => f.write_str("Essential")?,
        }
        for (name, version) in &self.packages {
            write!(f, " → {name} {version}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(links: &[Link<'_>], name: &str) -> Vec<String> {
        let chains = why(links, name).unwrap();
        chains.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_shortest_way_from_each_beginning_is_told() {
        let needs = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let [app, base, mid, low] = [
            needs(&["low", "mid"]),
            needs(&["mid"]),
            needs(&["low"]),
            needs(&["mid"]),
        ];
        let link = |name, requested: &[&str], essential, needs| Link {
            name,
            version: "1",
            requested: requested.iter().map(ToString::to_string).collect(),
            essential,
            needs,
        };
        let links = [
            link("app", &["app@1"], false, &app),
            link("base", &[], true, &base),
            link("low", &[], false, &low),
            link("mid", &[], false, &mid),
        ];
        assert_eq!(
            shown(&links, "low"),
            [
                "app@1 (asked for) → app 1 → low 1",
                "Essential → base 1 → mid 1 → low 1"
            ]
        );
        assert_eq!(shown(&links, "app"), ["app@1 (asked for) → app 1"]);
        assert_eq!(why(&links, "gone"), None);
    }
}
