//! dpkg's status file (dpkg(1), FILES), paragraph by paragraph.

use std::collections::BTreeMap;

/// What dpkg has written about packages, by name and architecture.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status(BTreeMap<(String, String), String>);

impl Status {
    /// Reads a status file. What is no paragraph of a package is passed over.
    pub fn parse(text: &str) -> Self {
        let paragraphs = text.split("\n\n").map(|text| text.trim_matches('\n'));
        Self(
            paragraphs
                .filter_map(|paragraph| {
                    let field = |name| field(paragraph, name).map(str::to_owned);
                    let key = (field("Package")?, field("Architecture")?);
                    Some((key, format!("{paragraph}\n")))
                })
                .collect(),
        )
    }

    /// What it says about a package: lines, the last with its line feed.
    pub fn paragraph(&self, name: &str, architecture: &str) -> Option<&str> {
        let key = (name.to_owned(), architecture.to_owned());
        self.0.get(&key).map(String::as_str)
    }
}

/// A configured package's paragraph once these of its triggers were activated.
pub fn with_pending(paragraph: &str, triggers: &[&str]) -> String {
    if triggers.is_empty() {
        return paragraph.to_owned();
    }
    let pending = format!(
        "\nStatus: install ok triggers-pending\nTriggers-Pending: {}\n",
        triggers.join(" ")
    );
    paragraph.replacen("\nStatus: install ok installed\n", &pending, 1)
}

fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nDescription: x\n .\n y\n\n\
                        Package: b\nStatus: install ok installed\nArchitecture: all\n";

    #[test]
    fn paragraphs_are_found_whole() {
        let status = Status::parse(TEXT);
        assert_eq!(
            status.paragraph("a", "amd64"),
            Some(
                "Package: a\nStatus: install ok installed\nArchitecture: amd64\nDescription: x\n .\n y\n"
            )
        );
        assert!(status.paragraph("b", "all").is_some());
        assert_eq!(status.paragraph("b", "amd64"), None);
    }

    /// dpkg would otherwise never tell the package.
    #[test]
    fn activated_triggers_are_pending() {
        let status = Status::parse(TEXT);
        let paragraph = status.paragraph("b", "all").unwrap();
        assert_eq!(with_pending(paragraph, &[]), paragraph);
        assert_eq!(
            with_pending(paragraph, &["/usr/share/x", "y"]),
            "Package: b\nStatus: install ok triggers-pending\nTriggers-Pending: /usr/share/x y\nArchitecture: all\n"
        );
    }
}
