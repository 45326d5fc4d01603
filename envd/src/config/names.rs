//! Sections that people name, `[service.db]`, and the names by which they refer to each other.

use std::collections::BTreeMap;

use envd_supervision::{
    Name,
    graph::{self, GraphError},
};
use toml::{Spanned, de::DeValue};

use super::reader::{Fault, Reader, TableReader, nearest};

/// Sections by name.
pub(super) struct Sections<T> {
    /// Those that are right.
    pub read: BTreeMap<Name, T>,
    /// The names of all, so that a fault in one is not reported once more by those that refer to it.
    pub named: Vec<Name>,
}

/// Reads each table of `[kind.NAME]`.
pub(super) fn read_sections<T>(
    reader: &mut Reader,
    kind: &str,
    value: &Spanned<DeValue<'_>>,
    mut read: impl FnMut(&mut Reader, &str, &mut TableReader<'_, '_>) -> Option<T>,
) -> Sections<T> {
    let mut sections = Sections {
        read: BTreeMap::new(),
        named: Vec::new(),
    };
    let Some(table) = reader.table(&format!("{kind}.NAME"), value) else {
        return sections;
    };
    for (key, value) in table.entries() {
        let name = match key.get_ref().parse::<Name>() {
            Ok(name) => name,
            Err(error) => {
                reader.report(
                    key.span(),
                    Fault {
                        message: error.to_string(),
                        help: None,
                    },
                );
                continue;
            }
        };
        sections.named.push(name.clone());
        let what = format!("{kind}.{name}");
        if let Some(mut table) = reader.table(&what, value) {
            let section = read(reader, &what, &mut table);
            reader.finish(table);
            sections.read.extend(section.map(|section| (name, section)));
        }
    }
    sections
}

/// Reads an array of names, none of them twice. Whether they name anything is seen when all are known.
pub(super) fn read_references(
    reader: &mut Reader,
    what: &str,
    value: &Spanned<DeValue<'_>>,
) -> Vec<Spanned<Name>> {
    let mut names: Vec<Spanned<Name>> = Vec::new();
    for text in reader.strings(what, value).unwrap_or_default() {
        let fault = match text.get_ref().parse::<Name>() {
            Ok(name) if names.iter().any(|known| *known.get_ref() == name) => {
                format!("`{name}` is listed twice")
            }
            Ok(name) => {
                names.push(Spanned::new(text.span(), name));
                continue;
            }
            Err(error) => error.to_string(),
        };
        reader.report(
            text.span(),
            Fault {
                message: fault,
                help: None,
            },
        );
    }
    names
}

/// Reports references to sections of `kind` that there are not.
pub(super) fn check_references<'a>(
    reader: &mut Reader,
    kind: &str,
    references: impl Iterator<Item = &'a Spanned<Name>>,
    known: &[Name],
) {
    let known: Vec<&str> = known.iter().map(Name::as_str).collect();
    for reference in references {
        let name = reference.get_ref().as_str();
        if known.contains(&name) {
            continue;
        }
        let help = match nearest(name, &known) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write a section [{kind}.{name}], or remove the name"),
        };
        let message = format!("there is no {kind} `{name}`");
        reader.report(
            reference.span(),
            Fault {
                message,
                help: Some(help),
            },
        );
    }
}

/// Reports needs that lead back to where they began, at the first need of the chain. Those of no section are reported already.
pub(super) fn check_order(
    reader: &mut Reader,
    kind: &str,
    references: &BTreeMap<&str, Vec<&Spanned<Name>>>,
) {
    let needs = references
        .iter()
        .map(|(name, needs)| {
            let needs = needs.iter().map(|need| need.get_ref().as_str());
            let known = needs.filter(|need| references.contains_key(need));
            (*name, known.collect())
        })
        .collect();
    let Err(GraphError::Cycle(chain)) = graph::order(&needs) else {
        return;
    };
    let span = references[&*chain[0]]
        .iter()
        .find(|need| need.get_ref().as_str() == chain[1])
        .map_or(0..0, |need| need.span());
    let message = match chain.len() {
        2 => format!("the {kind} `{}` needs itself", chain[0]),
        _ => format!("each {kind} needs the next: {}", chain.join(" → ")),
    };
    let help = Some("remove one of these needs".to_owned());
    reader.report(span, Fault { message, help });
}
