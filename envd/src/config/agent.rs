//! `[agent]`: what agents may do in lent environments. The user's file says what is allowed; a project's can only tighten it,
//! which is for [`envd_agents::policy::effective`] to hold. Here both become layers whose values know their lines.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use envd_agents::{
    changes::protected::Pattern,
    egress::{HostName, Rule},
    policy::{Layer, Origin, Outside, Place, Quantity, Said},
    secret::{self, Header, Kept},
};
use toml::{Spanned, de::DeValue};

use super::{
    Source,
    publish::publishing,
    reader::{Fault, Reader, TableReader},
};

/// The most of anything that is counted.
const MOST: u32 = 1_000_000;
/// The port that clients inside ask for when a secret's host names none.
const HTTP: u16 = 80;

/// Whose file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whose<'a> {
    /// A project's.
    Project,
    /// The user's, whose directory this is, if it is known.
    User(Option<&'a Path>),
}

/// Reads the section.
pub(crate) fn read(
    reader: &mut Reader,
    source: &Source,
    whose: Whose<'_>,
    value: &Spanned<DeValue<'_>>,
) -> Layer {
    let Some(mut table) = reader.table("agent", value) else {
        return Layer::default();
    };
    let mut section = Section { source, whose };
    let layer = section.read(reader, &mut table);
    reader.finish(table);
    layer
}

/// What is being read.
struct Section<'a> {
    source: &'a Source,
    whose: Whose<'a>,
}

impl Section<'_> {
    fn said<T>(&self, span: Range<usize>, value: T) -> Said<T> {
        let (line, column) = self.source.position(span.start);
        let place = Place {
            file: self.source.path.clone(),
            line,
            column,
            bytes: (span.start, span.end),
        };
        let origin = match self.whose {
            Whose::Project => Origin::Project(place),
            Whose::User(_) => Origin::User(place),
        };
        Said::new(value, origin)
    }

    fn read(&mut self, reader: &mut Reader, table: &mut TableReader<'_, '_>) -> Layer {
        let mut layer = Layer::default();
        if let Some(value) = table.get("network") {
            layer.network = self.network(reader, value);
        }
        if let Some(value) = table.get("packages") {
            let packages = reader.boolean("agent.packages", value);
            layer.packages = packages.map(|packages| self.said(value.span(), packages));
        }
        if let Some(value) = table.get("publish") {
            let publishing = publishing(reader, value);
            layer.publish = publishing.map(|publishing| self.said(value.span(), publishing));
        }
        self.limits(reader, table, &mut layer.limits);
        if let Some(value) = table.get("secrets") {
            match self.whose {
                Whose::Project => layer.secrets = self.wanted(reader, value),
                Whose::User(home) => layer.kept = self.kept(reader, value, home),
            }
        }
        if let Some(value) = table.get("protect") {
            let texts = reader.strings("agent.protect", value).unwrap_or_default();
            layer.protect = self.parsed(reader, texts, |text| Pattern::try_from(text));
        }
        if let Some(value) = table.get("require") {
            let texts = reader.strings("agent.require", value).unwrap_or_default();
            let said = texts
                .into_iter()
                .map(|text| self.said(text.span(), text.into_inner()));
            layer.require = said.collect();
        }
        match self.whose {
            Whose::User(home) => {
                if let Some(value) = table.get("lend") {
                    layer.lend = self.lent(reader, value, home);
                }
            }
            Whose::Project => {
                if let Some(value) = table.get("lend") {
                    let fault = Fault {
                        message: "`agent.lend` is not for a project to say".to_owned(),
                        help: Some(
                            "write it under [agent] in the user's config.toml of envd, or start the server with --lend"
                                .to_owned(),
                        ),
                    };
                    reader.report(value.span(), fault);
                }
            }
        }
        layer
    }

    /// Texts that become something; what does not is reported.
    fn parsed<T, E: std::fmt::Display>(
        &self,
        reader: &mut Reader,
        texts: Vec<Spanned<String>>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<Said<T>> {
        let mut all = Vec::new();
        for text in texts {
            match parse(text.get_ref()) {
                Ok(value) => all.push(self.said(text.span(), value)),
                Err(error) => reader.report(
                    text.span(),
                    Fault {
                        message: error.to_string(),
                        help: None,
                    },
                ),
            }
        }
        all
    }

    fn network(&self, reader: &mut Reader, value: &Spanned<DeValue<'_>>) -> Option<Said<Outside>> {
        let outside = match value.get_ref() {
            DeValue::String(text) if text == "none" => Outside::Nothing,
            DeValue::String(text) if text == "host" => Outside::Host,
            DeValue::Array(_) => {
                let texts = reader.strings("agent.network", value)?;
                Outside::Names(self.parsed(reader, texts, str::parse::<Rule>))
            }
            _ => {
                let fault = Fault {
                    message: "`agent.network` must be \"none\", \"host\" or an array of host names"
                        .to_owned(),
                    help: Some(
                        "write [\"pypi.org\", \"*.crates.io\"] for these names only".to_owned(),
                    ),
                };
                reader.report(value.span(), fault);
                return None;
            }
        };
        Some(self.said(value.span(), outside))
    }

    fn limits(
        &self,
        reader: &mut Reader,
        table: &mut TableReader<'_, '_>,
        limits: &mut BTreeMap<Quantity, Said<u64>>,
    ) {
        for quantity in Quantity::ALL {
            let key = quantity.key();
            let Some(value) = table.get(key) else {
                continue;
            };
            let what = format!("agent.{key}");
            let number = match quantity {
                Quantity::Memory | Quantity::Disk => reader.size(&what, value),
                Quantity::Processes | Quantity::Environments => {
                    reader.number(&what, value, 1..=MOST).map(u64::from)
                }
                Quantity::Processors => reader.thousandths(&what, value),
                Quantity::TimeToLive => reader
                    .duration(&what, value)
                    // A part of a second is none.
                    .map(|time| time.as_secs().max(1)),
            };
            limits.extend(number.map(|number| (quantity, self.said(value.span(), number))));
        }
    }

    /// The only secrets that may be used.
    fn wanted(
        &self,
        reader: &mut Reader,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Said<Vec<Said<String>>>> {
        if matches!(value.get_ref(), DeValue::Table(_)) {
            let fault = Fault {
                message: "where secrets come from is not for a project to say".to_owned(),
                help: Some(
                    "write [agent.secrets] in the user's config.toml of envd; here only names, as in secrets = [\"NPM_TOKEN\"]"
                        .to_owned(),
                ),
            };
            reader.report(value.span(), fault);
            return None;
        }
        let texts = reader.strings("agent.secrets", value)?;
        let mut names = Vec::new();
        for text in texts {
            if self.is_secret_name(reader, text.get_ref(), text.span()) {
                names.push(self.said(text.span(), text.into_inner()));
            }
        }
        Some(self.said(value.span(), names))
    }

    fn is_secret_name(&self, reader: &mut Reader, name: &str, span: Range<usize>) -> bool {
        let usable = !name.is_empty()
            && name.len() <= 64
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !usable {
            let message = format!("{name:?} cannot be a secret's name");
            let help = "it becomes a variable: letters, digits and _, no digit first, 64 at most"
                .to_owned();
            reader.report(
                span,
                Fault {
                    message,
                    help: Some(help),
                },
            );
        }
        usable
    }

    /// `[agent.secrets]`
    fn kept(
        &self,
        reader: &mut Reader,
        value: &Spanned<DeValue<'_>>,
        home: Option<&Path>,
    ) -> BTreeMap<String, Said<Kept>> {
        let Some(table) = reader.table("agent.secrets", value) else {
            return BTreeMap::new();
        };
        let mut all = BTreeMap::new();
        for (key, value) in table.entries() {
            let name = key.get_ref().to_string();
            let usable = self.is_secret_name(reader, &name, key.span());
            let what = format!("agent.secrets.{name}");
            let Some(mut one) = reader.table(&what, value) else {
                continue;
            };
            let kept = secret_of(reader, &mut one, &what, key.span(), home);
            reader.finish(one);
            if let Some(kept) = kept.filter(|_| usable) {
                all.insert(name, self.said(key.span(), kept));
            }
        }
        all
    }

    fn lent(
        &self,
        reader: &mut Reader,
        value: &Spanned<DeValue<'_>>,
        home: Option<&Path>,
    ) -> Vec<Said<PathBuf>> {
        let texts = reader.strings("agent.lend", value).unwrap_or_default();
        let mut all = Vec::new();
        for text in texts {
            if let Some(path) = user_path(reader, "agent.lend[]", &text, home) {
                all.push(self.said(text.span(), path));
            }
        }
        all
    }
}

/// A path of the user's file: absolute, or below `~/`.
fn user_path(
    reader: &mut Reader,
    what: &str,
    text: &Spanned<String>,
    home: Option<&Path>,
) -> Option<PathBuf> {
    let path = match (text.get_ref().strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text.get_ref()),
    };
    if path.is_absolute() {
        return Some(path);
    }
    let message = format!(
        "`{what}` must be an absolute path or begin with ~/, not {:?}",
        text.get_ref()
    );
    reader.report(
        text.span(),
        Fault {
            message,
            help: None,
        },
    );
    None
}

/// One secret: where its value comes from, and the header that is made of it.
fn secret_of(
    reader: &mut Reader,
    table: &mut TableReader<'_, '_>,
    what: &str,
    span: Range<usize>,
    home: Option<&Path>,
) -> Option<Kept> {
    let variable = table
        .get("env")
        .and_then(|value| reader.string(&format!("{what}.env"), value));
    let file = table
        .get("file")
        .and_then(|value| reader.string(&format!("{what}.file"), value));
    let command = table
        .get("command")
        .and_then(|value| reader.strings(&format!("{what}.command"), value));
    let header = header_of(reader, table, what);
    let origin = match (variable, file, command) {
        (Some(variable), None, None) => secret::Origin::Variable(variable.into_inner()),
        (None, Some(file), None) => {
            secret::Origin::File(user_path(reader, &format!("{what}.file"), &file, home)?)
        }
        (None, None, Some(words)) if !words.is_empty() => {
            secret::Origin::Command(words.into_iter().map(Spanned::into_inner).collect())
        }
        _ => {
            let message = format!("`{what}` must say one place where its value comes from");
            let help = "write { env = \"VARIABLE\" }, { file = \"~/path\" } or { command = [\"program\", \"argument\"] }";
            reader.report(
                span,
                Fault {
                    message,
                    help: Some(help.to_owned()),
                },
            );
            return None;
        }
    };
    Some(Kept {
        origin,
        header: header?,
    })
}

/// The header, if there is to be one. `None` if it is wrong.
fn header_of(
    reader: &mut Reader,
    table: &mut TableReader<'_, '_>,
    what: &str,
) -> Option<Option<Header>> {
    let header = table.get("header");
    let host = table.get("host");
    let upgrade = table.get("upgrade");
    let (Some(header), Some(host)) = (header, host) else {
        let Some(alone) = header.or(host).or(upgrade) else {
            return Some(None);
        };
        let fault = Fault {
            message: format!("`{what}` needs both `header` and `host`, or neither"),
            help: Some(
                "write header = \"Authorization: Bearer {}\", host = \"api.example.org\""
                    .to_owned(),
            ),
        };
        reader.report(alone.span(), fault);
        return None;
    };
    let upgrade = match upgrade {
        Some(value) => reader.boolean(&format!("{what}.upgrade"), value)?,
        None => true,
    };
    let text = reader.string(&format!("{what}.header"), header)?;
    let host = reader.string(&format!("{what}.host"), host)?;
    let (name, port) = match host.get_ref().split_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port != 0)),
        None => (&**host.get_ref(), Some(HTTP)),
    };
    let parsed = name
        .parse::<HostName>()
        .map_err(|error| error.to_string())
        .and_then(|name| Ok((name, port.ok_or("its port is none between 1 and 65535")?)));
    let (name, port) = match parsed {
        Ok(parsed) => parsed,
        Err(problem) => {
            let message = format!("`{what}.host` is {:?}: {problem}", host.get_ref());
            reader.report(
                host.span(),
                Fault {
                    message,
                    help: None,
                },
            );
            return None;
        }
    };
    match Header::parse(text.get_ref(), name, port, upgrade) {
        Ok(header) => Some(Some(header)),
        Err(error) => {
            let message = format!("`{what}.header`: {error}");
            reader.report(
                text.span(),
                Fault {
                    message,
                    help: None,
                },
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(whose: Whose<'_>, text: &str) -> Result<Layer, String> {
        let source = Source {
            path: "file.toml".into(),
            text: text.into(),
        };
        Reader::document(&source, |reader, top| {
            let value = top.get("agent").expect("the section is there");
            read(reader, &source, whose, value)
        })
        .map_err(|error| error.to_string())
    }

    const USER: Whose<'_> = Whose::User(None);

    #[test]
    fn everything_that_can_be_said_is_read_with_its_line() {
        let text = r#"[agent]
network = ["pypi.org", "*.crates.io:8443"]
packages = false
publish = [3000, 8080]
memory = "2 GiB"
disk = "500 MB"
processes = 512
processors = 1.5
time-to-live = "8h"
environments = 4
protect = ["/Makefile", "*.sql"]
require = ["landlock"]
lend = ["~/src", "/srv/x"]
[agent.secrets]
NPM_TOKEN = { env = "TOKEN" }
KEY = { file = "~/.secrets/key" }
GH = { command = ["pass", "gh"], header = "Authorization: Bearer {}", host = "api.github.com" }
"#;
        let layer = layer(Whose::User(Some(Path::new("/home/ada"))), text).unwrap();
        let network = layer.network.unwrap();
        assert_eq!(
            network.value.to_string(),
            "[\"pypi.org\", \"*.crates.io:8443\"]"
        );
        assert_eq!(network.origin.to_string(), "user file.toml:2:11");
        let Outside::Names(names) = network.value else {
            panic!()
        };
        assert_eq!(names[1].origin.to_string(), "user file.toml:2:24");
        let publish = layer.publish.unwrap();
        assert_eq!(publish.value.to_string(), "[3000, 8080]");
        assert_eq!(publish.origin.to_string(), "user file.toml:4:11");
        let limit = |quantity| layer.limits[&quantity].value;
        assert_eq!(limit(Quantity::Memory), 2 << 30);
        assert_eq!(limit(Quantity::Disk), 500_000_000);
        assert_eq!(limit(Quantity::Processors), 1500);
        assert_eq!(limit(Quantity::TimeToLive), 8 * 3600);
        assert_eq!(
            (limit(Quantity::Processes), limit(Quantity::Environments)),
            (512, 4)
        );
        assert!(!layer.packages.unwrap().value);
        assert_eq!(layer.lend[0].value, Path::new("/home/ada/src"));
        assert_eq!((layer.protect.len(), layer.require.len()), (2, 1));
        let shown = |name: &str| layer.kept[name].value.to_string();
        assert_eq!(shown("NPM_TOKEN"), "the variable TOKEN");
        assert_eq!(shown("KEY"), "the file /home/ada/.secrets/key");
        assert_eq!(
            shown("GH"),
            "what `pass gh` prints, as Authorization to api.github.com (https)"
        );
    }

    #[test]
    fn a_project_names_secrets_and_nothing_more_of_them() {
        let wanted = layer(Whose::Project, "[agent]\nsecrets = [\"A\"]\n").unwrap();
        assert_eq!(wanted.secrets.unwrap().value[0].value, "A");
        for text in [
            "[agent.secrets]\nA = { command = [\"evil\"] }\n",
            "[agent]\nlend = [\"/\"]\n",
        ] {
            let error = layer(Whose::Project, text).unwrap_err();
            assert!(error.contains("not for a project to say"), "{error}");
            assert!(
                error.contains("config.toml") && error.contains("file.toml:"),
                "{error}"
            );
        }
    }

    #[test]
    fn mistakes_are_shown_with_what_to_write_instead() {
        for (text, parts) in [
            ("network = \"all\"", &["\"none\", \"host\""][..]),
            ("network = [\"https://x.org\"]", &["is a URL"]),
            ("network = [3]", &["must be a string"]),
            ("publish = \"yes\"", &["true, false or an array of ports"]),
            ("publish = [0]", &["from 1 to 65535"]),
            ("memory = 5", &["write \"5 MiB\""]),
            ("memory = \"lots\"", &["size with its unit"]),
            ("memory = \"0 GiB\"", &["size with its unit"]),
            ("processors = 0", &["`agent.processors` must be a number"]),
            (
                "processors = \"2\"",
                &["`agent.processors` must be a number"],
            ),
            ("processes = 0", &["from 1 to"]),
            ("time-to-live = 5", &["write \"5s\""]),
            ("protect = [\"a//b\"]", &["is no path pattern"]),
            ("memroy = \"1 GiB\"", &["did you mean `memory`?"]),
            ("lend = [\"src\"]", &["absolute path"]),
            ("secrets.A = { }", &["one place"]),
            ("secrets.A = { env = \"A\", file = \"/a\" }", &["one place"]),
            ("secrets.A = { command = [] }", &["one place"]),
            (
                "secrets.A = { env = \"A\", host = \"a.org\" }",
                &["both `header` and `host`"],
            ),
            (
                "secrets.A = { env = \"A\", upgrade = false }",
                &["both `header` and `host`"],
            ),
            (
                "secrets.A = { env = \"A\", host = \"a.org:0\", header = \"A: {}\" }",
                &["port"],
            ),
            (
                "secrets.A = { env = \"A\", host = \"10.0.0.1\", header = \"A: {}\" }",
                &["10.0.0.1"],
            ),
            (
                "secrets.A = { env = \"A\", host = \"a.org\", header = \"A\" }",
                &["Bearer {}"],
            ),
            (
                "secrets.A = { env = \"A\", hots = \"a.org\" }",
                &["did you mean `host`?"],
            ),
            (
                "secrets.\"1A\" = { env = \"A\" }",
                &["cannot be a secret's name"],
            ),
            (
                "secrets.\"A-B\" = { env = \"A\" }",
                &["cannot be a secret's name"],
            ),
        ] {
            let error = layer(USER, &format!("[agent]\n{text}\n")).expect_err(text);
            for part in parts {
                assert!(error.contains(part), "{text}: {error}");
            }
            assert!(error.contains("file.toml:2:"), "{error}");
        }
    }
}
