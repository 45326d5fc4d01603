//! What a project's file says never makes the policy wider.

use std::{collections::BTreeMap, path::PathBuf};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{
    egress::{Allowlist, HostName},
    secret::{self, Kept},
    service::environment::{Limits, Network, Source},
};

/// Rules that cover one another in every way that there is.
const RULES: [&str; 9] = [
    "pypi.org",
    "files.pypi.org",
    "*.pypi.org",
    "*.files.pypi.org",
    "pypi.org:8443",
    "pypi.org:8443/tcp",
    "*.example.org",
    "*.example.org:80",
    "a.example.org:80/tcp",
];
/// What is tried.
const NAMES: [&str; 6] = [
    "pypi.org",
    "files.pypi.org",
    "a.files.pypi.org",
    "example.org",
    "a.example.org",
    "crates.io",
];
const PORTS: [u16; 4] = [80, 443, 8443, 22];
const SECRETS: [&str; 3] = ["ONE", "TWO", "THREE"];
const PATHS: [&str; 3] = ["/secret", "docs/*.md", "build.rs"];
const MECHANISMS: [&str; 3] = ["landlock", "seccomp", "cgroups"];

fn place() -> Place {
    Place {
        file: "envd.toml".into(),
        line: 3,
        column: 5,
        bytes: (10, 20),
    }
}

fn said<T>(value: T) -> Said<T> {
    Said::new(value, Origin::Project(place()))
}

fn rules() -> impl Strategy<Value = Outside> {
    let names = vec(select(&RULES[..]), 0..5).prop_map(|rules| {
        let rules = rules.into_iter().map(|rule| said(rule.parse().unwrap()));
        Outside::Names(rules.collect())
    });
    prop_oneof![
        1 => Just(Outside::Nothing),
        1 => Just(Outside::Host),
        4 => names,
    ]
}

fn publishing() -> impl Strategy<Value = Publishing> {
    let at = proptest::collection::btree_set(select(&PORTS[..]), 0..3).prop_map(Publishing::At);
    prop_oneof![
        1 => Just(Publishing::Nothing),
        1 => Just(Publishing::Anywhere),
        3 => at,
    ]
}

fn kept(name: &str) -> Kept {
    Kept {
        origin: secret::Origin::Variable(name.to_owned()),
        header: None,
    }
}

fn layer() -> impl Strategy<Value = Layer> {
    let limits = proptest::collection::btree_map(select(&Quantity::ALL[..]), 1_u64..6, 0..6);
    (
        option::of(rules()),
        vec(select(&["/a", "/a/b", "/c"][..]), 0..2),
        (option::of(any::<bool>()), option::of(publishing())),
        limits,
        vec(select(&SECRETS[..]), 0..3),
        option::of(vec(select(&SECRETS[..]), 0..3)),
        vec(select(&PATHS[..]), 0..3),
        vec(select(&MECHANISMS[..]), 0..3),
    )
        .prop_map(
            |(network, lend, (packages, publish), limits, secrets, wanted, protect, require)| {
                Layer {
                    network: network.map(said),
                    lend: lend.into_iter().map(|path| said(path.into())).collect(),
                    packages: packages.map(said),
                    publish: publish.map(said),
                    limits: limits
                        .into_iter()
                        .map(|(quantity, value)| (quantity, said(value)))
                        .collect(),
                    kept: secrets
                        .into_iter()
                        .map(|name| (name.to_owned(), said(kept(name))))
                        .collect(),
                    secrets: wanted.map(|names| {
                        said(
                            names
                                .into_iter()
                                .map(|name| said(name.to_owned()))
                                .collect(),
                        )
                    }),
                    protect: protect
                        .into_iter()
                        .map(|path| said(path.try_into().unwrap()))
                        .collect(),
                    require: require
                        .into_iter()
                        .map(|name| said(name.to_owned()))
                        .collect(),
                }
            },
        )
}

/// Whether something can be reached in the widest environment that can be asked for.
fn reaches(policy: &Effective, name: &str, port: u16) -> bool {
    let name: HostName = name.parse().unwrap();
    match &policy.network.value {
        Outside::Nothing => false,
        Outside::Host => true,
        Outside::Names(names) => {
            let list: Allowlist = names.iter().map(|name| name.value.clone()).collect();
            list.check(&name, port).is_ok()
        }
    }
}

/// Whether something can be reached with a protocol that nobody looks at.
fn reaches_blindly(policy: &Effective, name: &str, port: u16) -> bool {
    let name: HostName = name.parse().unwrap();
    match &policy.network.value {
        Outside::Names(names) => {
            let list: Allowlist = names.iter().map(|name| name.value.clone()).collect();
            list.check(&name, port).is_ok_and(|rule| rule.is_opaque())
        }
        _ => reaches(policy, name.as_str(), port),
    }
}

fn assert_no_wider(narrow: &Effective, wide: &Effective) {
    for name in NAMES {
        for port in PORTS {
            let at = format!("{name}:{port}");
            assert!(
                !reaches(narrow, name, port) || reaches(wide, name, port),
                "{at}"
            );
            let blindly = reaches_blindly(narrow, name, port);
            assert!(!blindly || reaches_blindly(wide, name, port), "{at}");
        }
    }
    for rule in RULES {
        let wish = || Some(Network::Allow(vec![rule.to_owned()]));
        assert!(narrow.judge_network(wish()).is_err() || wide.judge_network(wish()).is_ok());
    }
    let host = || Some(Network::Host);
    assert!(narrow.judge_network(host()).is_err() || wide.judge_network(host()).is_ok());
    for path in ["/a", "/a/b/c", "/c", "/d"].map(PathBuf::from) {
        assert!(!narrow.lends(&path) || wide.lends(&path));
    }
    for port in PORTS.map(Some).into_iter().chain([None]) {
        assert!(narrow.judge_publishing(port).is_err() || wide.judge_publishing(port).is_ok());
    }
    let packages = Source::Packages(Vec::new());
    assert!(narrow.judge_source(&packages).is_err() || wide.judge_source(&packages).is_ok());
    for quantity in Quantity::ALL {
        let most = |policy: &Effective| policy.limit(quantity).map_or(u64::MAX, |said| said.value);
        assert!(most(narrow) <= most(wide), "{quantity}");
    }
    for name in SECRETS {
        if let Ok(secret) = narrow.judge_secret(name) {
            assert_eq!(Ok(secret), wide.judge_secret(name));
        }
    }
    assert!(
        wide.protect
            .iter()
            .all(|said| narrow.protect.contains(said))
    );
    assert!(
        wide.require
            .iter()
            .all(|said| narrow.require.contains(said))
    );
}

proptest! {
    #[test]
    fn whatever_a_project_says_the_policy_is_never_wider(
        user in layer(), flags in layer(), projects in vec(layer(), 1..3),
    ) {
        let without = Layers { user, flags, projects: Vec::new(), ..Layers::default() };
        let wide = effective(&without).expect("nobody has to be tighter than another");
        let with = Layers { projects: projects.clone(), ..without };
        match effective(&with) {
            Ok(narrow) => assert_no_wider(&narrow, &wide),
            Err(widenings) => prop_assert!(!widenings.is_empty()),
        }
        // What is refused alone is refused in company.
        for alone in projects {
            let alone = Layers { projects: vec![alone], ..with.clone() };
            if effective(&alone).is_err() {
                prop_assert!(effective(&with).is_err());
            }
        }
    }

    /// The same where nothing is refused, which few random files are.
    #[test]
    fn what_a_project_may_say_tightens(user in layer(), flags in layer(), mut project in layer()) {
        project.lend.clear();
        project.kept.clear();
        let without = Layers { user, flags, ..Layers::default() };
        let wide = effective(&without).unwrap();
        if let Some(Said { value: Outside::Names(names), .. }) = &mut project.network {
            names.retain(|name| wide.network.value.covers(&name.value));
        }
        if wide.network.value != Outside::Host {
            project.network = project.network.filter(|said| said.value != Outside::Host);
        }
        project.packages = project.packages.filter(|said| !said.value);
        project.publish = project.publish.filter(|said| wide.publish.value.covers(&said.value));
        project.limits.retain(|quantity, said| {
            wide.limit(*quantity).is_none_or(|limit| said.value <= limit.value)
        });
        let with = Layers { projects: vec![project.clone()], ..without };
        let narrow = effective(&with).expect("it only tightens");
        assert_no_wider(&narrow, &wide);
        for (quantity, said) in &project.limits {
            prop_assert_eq!(narrow.limit(*quantity).map(|limit| limit.value), Some(said.value));
        }
    }

    #[test]
    fn a_request_loosens_nothing(
        user in layer(), memory in option::of(0_u64..10), processes in option::of(0_u64..10),
        processors in option::of(-1.0_f64..10.0), seconds in option::of(0_u64..10),
    ) {
        let policy = effective(&Layers { user, ..Layers::default() }).unwrap();
        let wish = Limits { memory_bytes: memory, processes, processors, disk_bytes: None };
        let (limits, warnings) = policy.judge_limits(Some(wish.clone()));
        let (time, cut) = policy.judge_time_to_live(seconds);
        let within = |quantity, value: Option<u64>| match policy.limit(quantity) {
            Some(limit) => value.is_some_and(|value| value <= limit.value),
            None => true,
        };
        prop_assert!(within(Quantity::Memory, limits.memory_bytes));
        prop_assert!(within(Quantity::Processes, limits.processes));
        prop_assert!(within(Quantity::TimeToLive, time));
        let thousandths = limits.processors.map(|processors| (processors * 1000.0).round() as u64);
        prop_assert!(within(Quantity::Processors, thousandths));
        let asked = limits.memory_bytes == memory || memory.is_none();
        prop_assert!(asked || !warnings.is_empty());
        prop_assert!(time == seconds || seconds.is_none() || cut.is_some());
    }
}

#[test]
fn a_widening_says_where_it_is_and_where_it_would_have_to_be() {
    let rule = said("example.org".parse().unwrap());
    let project = Layer {
        network: Some(said(Outside::Names(vec![rule]))),
        limits: BTreeMap::from([(Quantity::Environments, said(1_000_000))]),
        ..Layer::default()
    };
    let layers = Layers {
        projects: vec![project],
        ..Layers::default()
    };
    let widenings = effective(&layers).unwrap_err();
    let texts: Vec<String> = widenings.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "a project can only tighten the policy: reaching example.org is more than none (built-in)",
            "a project can only tighten the policy: environments = 1000000 is more than 256 (built-in)",
        ]
    );
    assert_eq!(widenings[0].place.to_string(), "envd.toml:3:5");
    assert_eq!(widenings[0].instead, "network = [\"example.org\"]");
    assert_eq!(widenings[1].instead, "environments = 1000000");
}

#[test]
fn flags_add_to_what_the_users_file_says() {
    let user = Layer {
        network: Some(said(Outside::Names(vec![said(
            "pypi.org".parse().unwrap(),
        )]))),
        ..Layer::default()
    };
    let of = |flags| {
        let layers = Layers {
            user: user.clone(),
            flags,
            ..Layers::default()
        };
        effective(&layers).unwrap().network
    };
    let hosts = || ["crates.io".parse().unwrap()];
    let named = of(Layer::of_flags([], hosts(), false));
    assert_eq!(named.value.to_string(), "[\"pypi.org\", \"crates.io\"]");
    let host = of(Layer::of_flags([], hosts(), true));
    assert_eq!(host.value, Outside::Host);
    assert_eq!(host.origin.to_string(), "flag --allow-host-network");
}

#[test]
fn nothing_is_reached_that_was_not_granted() {
    let names = |names: &[&str]| {
        Some(Network::Allow(
            names.iter().map(|&name| name.to_owned()).collect(),
        ))
    };
    let none = effective(&Layers::default()).unwrap();
    assert_eq!(none.judge_network(None), Ok(Network::None));
    assert!(none.judge_network(names(&["example.org"])).is_err());
    assert!(none.judge_network(Some(Network::Host)).is_err());
    assert!(
        none.judge_network(names(&[])).is_ok(),
        "an empty list reaches nothing"
    );
    let some = effective(&Layers {
        flags: Layer::of_flags([], ["*.example.org".parse().unwrap()], false),
        ..Layers::default()
    })
    .unwrap();
    assert_eq!(
        some.judge_network(None),
        Ok(names(&["*.example.org"]).unwrap())
    );
    assert!(some.judge_network(names(&["a.example.org"])).is_ok());
    assert!(
        some.judge_network(names(&["a.example.org", "example.net"]))
            .is_err()
    );
    assert!(some.judge_network(Some(Network::Host)).is_err());
    let host = effective(&Layers {
        flags: Layer::of_flags([], [], true),
        ..Layers::default()
    })
    .unwrap();
    assert_eq!(
        host.judge_network(None),
        Ok(Network::None),
        "it has to be asked for"
    );
    assert!(host.judge_network(Some(Network::Host)).is_ok());
    assert!(host.judge_network(names(&["example.org"])).is_ok());
}

#[test]
fn ports_are_published_only_where_somebody_says_so() {
    let at = |ports: &[u16]| Publishing::At(ports.iter().copied().collect());
    let none = effective(&Layers::default()).unwrap();
    let denied = none.judge_publishing(None).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "denied by the rule publish = false (built-in): publishing a port"
    );
    assert!(denied.next_step().contains("--publish"), "{denied:?}");
    let user = Layer {
        publish: Some(said(at(&[3000]))),
        ..Layer::default()
    };
    let layers = Layers {
        user,
        ..Layers::default()
    };
    let some = effective(&layers).unwrap();
    assert!(some.judge_publishing(None).is_ok() && some.judge_publishing(Some(3000)).is_ok());
    let denied = some.judge_publishing(Some(5432)).unwrap_err();
    assert!(denied.to_string().contains("publish = [3000]"), "{denied}");
    let project = Layer {
        publish: Some(said(at(&[3000, 5432]))),
        ..Layer::default()
    };
    let widened = Layers {
        projects: vec![project],
        ..layers
    };
    let widenings = effective(&widened).unwrap_err();
    assert_eq!(widenings[0].instead, "publish = [3000, 5432]");
}

#[test]
fn every_line_has_an_origin_and_a_mechanism() {
    let user = Layer {
        network: Some(said(Outside::Names(vec![said(
            "pypi.org".parse().unwrap(),
        )]))),
        kept: BTreeMap::from([("TOKEN".to_owned(), said(kept("TOKEN")))]),
        require: vec![said("landlock".to_owned())],
        limits: BTreeMap::from([(Quantity::Memory, said(2 << 30))]),
        ..Layer::default()
    };
    let lines = effective(&Layers {
        user,
        ..Layers::default()
    })
    .unwrap()
    .lines();
    let find = |what: &str| lines.iter().find(|line| line.what == what).unwrap();
    assert_eq!(find("network").value, "pypi.org");
    assert_eq!(find("memory").value, "2 GiB");
    assert_eq!(find("required").mechanism.needs, ["landlock"]);
    assert_eq!(find("secret TOKEN").value, "the variable TOKEN");
    assert_eq!(find("environments").origin, Origin::BuiltIn);
    assert!(
        lines
            .iter()
            .all(|line| !line.mechanism.name.is_empty() && !line.value.is_empty())
    );
}

#[test]
fn quantities_are_shown_as_they_are_written() {
    for (quantity, value, shown) in [
        (Quantity::Memory, 2 << 30, "2 GiB"),
        (Quantity::Memory, 1500, "1500 B"),
        (Quantity::Disk, 1536 << 20, "1536 MiB"),
        (Quantity::Processors, 1500, "1.5"),
        (Quantity::Processors, 2000, "2"),
        (Quantity::Processors, 125, "0.125"),
        (Quantity::TimeToLive, 7200, "2h"),
        (Quantity::TimeToLive, 90, "90s"),
        (Quantity::TimeToLive, 120, "2m"),
        (Quantity::Processes, 512, "512"),
    ] {
        assert_eq!(quantity.shown(value), shown);
    }
}
