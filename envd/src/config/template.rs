//! Texts in which ports are to be filled in: `postgres -p {port.db}`.

use envd_supervision::Name;

/// How a port is asked for.
const OPENING: &str = "{port.";

/// A text in which each `{port.NAME}` stands for a free port, the same one wherever that name is used. Any other brace is itself,
/// since shells use them, too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    written: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Port(Name),
}

/// A text that asks for a port by what cannot be a name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} asks for no port: write {{port.NAME}}, where NAME has letters, digits, `-`, `_` and `.`"
)]
pub struct TemplateError(String);

impl Template {
    /// Finds the ports that a text asks for.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(OPENING) {
            let (before, placeholder) = rest.split_at(start);
            let name = &placeholder[OPENING.len()..];
            let name_end = name.find('}').unwrap_or(name.len());
            let shown = &placeholder[..(OPENING.len() + name_end + 1).min(placeholder.len())];
            let wrong = || TemplateError(shown.chars().take(60).collect());
            if name_end == name.len() {
                return Err(wrong());
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Port(name[..name_end].parse().map_err(|_| wrong())?));
            rest = &name[name_end + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let written = text.to_owned();
        Ok(Self { written, pieces })
    }

    /// The text as it was written.
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// The names of the ports it asks for.
    pub fn ports(&self) -> impl Iterator<Item = &Name> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Port(name) => Some(name),
        })
    }

    /// The name of the port that it is, when it is nothing else.
    pub fn as_port(&self) -> Option<&Name> {
        match &self.pieces[..] {
            [Piece::Port(name)] => Some(name),
            _ => None,
        }
    }

    /// The text with the ports that `port` knows.
    pub fn fill(&self, mut port: impl FnMut(&Name) -> u16) -> String {
        let filled = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Port(name) => port(name).to_string(),
        });
        filled.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(text: &str) -> String {
        let template = Template::parse(text).expect("a template");
        template.fill(|name| 1000 + name.as_str().len() as u16)
    }

    #[test]
    fn ports_are_filled_in_and_other_braces_left_alone() {
        assert_eq!(filled("-p {port.db} -q {port.cache}"), "-p 1002 -q 1005");
        assert_eq!(
            filled("${x} {a,b} {port} { port.db }"),
            "${x} {a,b} {port} { port.db }"
        );
        assert_eq!(filled("{port.a}{port.b}"), "10011001");
        assert_eq!(
            Template::parse("{port.a}")
                .unwrap()
                .as_port()
                .unwrap()
                .as_str(),
            "a"
        );
        assert_eq!(Template::parse("{port.a} ").unwrap().as_port(), None);
    }

    #[test]
    fn what_asks_for_no_port_is_refused_and_shown() {
        for (text, shown) in [
            ("x {port.} y", "\"{port.}\""),
            ("{port.a b}", "\"{port.a b}\""),
            ("{port.db", "\"{port.db\""),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(shown), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_ports_is_itself(text in "[^{]{0,40}") {
            prop_assert_eq!(filled(&text), text);
        }

        #[test]
        fn any_text_is_answered(text in "[{}port.é a]{0,40}") {
            let _ = Template::parse(&text);
        }
    }
}
