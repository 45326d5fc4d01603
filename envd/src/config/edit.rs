//! Adds packages to a file and removes them, touching nothing else: comments, order and layout stay as their author left them.

use toml_edit::{Array, DocumentMut, Item, RawString, Table, Value};

use super::{ConfigError, Manifest, Source, package_name};

/// A text after an edit, and what the edit was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edited {
    /// The new text.
    pub text: String,
    /// The requirements that were added or removed, as the file spells them.
    pub packages: Vec<String>,
}

/// Why an edit was refused; the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file is wrong before the edit.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The package is there already.
    #[error("`{name}` is there already, as \"{present}\" on line {line}")]
    Present {
        /// Its name.
        name: String,
        /// How it is written.
        present: String,
        /// Where, from 1.
        line: usize,
    },
    /// A package was given twice in one command.
    #[error("`{name}` was given twice")]
    Twice {
        /// Its name.
        name: String,
    },
    /// The package is not in the file.
    #[error("`{name}` is not among the packages{}", near.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Absent {
        /// What was asked for.
        name: String,
        /// What was likely meant.
        near: Option<String>,
    },
}

/// Adds requirements at the end of `env.packages`, which is made if there is none.
pub fn add(source: &Source, requirements: &[String]) -> Result<Edited, EditError> {
    let manifest = Manifest::parse(source.clone())?;
    for (index, requirement) in requirements.iter().enumerate() {
        let name = package_name(requirement);
        if requirements[..index]
            .iter()
            .any(|r| package_name(r) == name)
        {
            return Err(EditError::Twice {
                name: name.to_owned(),
            });
        }
        let packages = &manifest.environment.packages;
        if let Some(present) = packages.iter().find(|p| package_name(p.get_ref()) == name) {
            return Err(EditError::Present {
                name: name.to_owned(),
                present: present.get_ref().clone(),
                line: source.position(present.span().start).0,
            });
        }
    }
    let mut document = parse(source)?;
    let array = packages(&mut document);
    for requirement in requirements {
        push_like_the_last(array, requirement);
    }
    finish(source, document, requirements.to_vec())
}

/// Removes packages by name, whatever their constraint; a constraint given must be the one that is written.
pub fn remove(source: &Source, requirements: &[String]) -> Result<Edited, EditError> {
    Manifest::parse(source.clone())?;
    let mut document = parse(source)?;
    let array = packages(&mut document);
    let mut removed = Vec::new();
    for requirement in requirements {
        let matches = |written: &str| {
            written == requirement
                || (package_name(requirement) == requirement
                    && package_name(written) == requirement)
        };
        let Some(index) = array.iter().position(|v| v.as_str().is_some_and(matches)) else {
            let names: Vec<&str> = array
                .iter()
                .filter_map(|v| v.as_str())
                .map(package_name)
                .collect();
            return Err(EditError::Absent {
                name: requirement.clone(),
                near: super::reader::nearest(requirement, &names).map(str::to_owned),
            });
        };
        removed.push(take(array, index));
    }
    finish(source, document, removed)
}

fn parse(source: &Source) -> Result<DocumentMut, ConfigError> {
    source.text.parse().map_err(|e: toml_edit::TomlError| {
        source.refuse(e.span().unwrap_or(0..0), e.message(), None)
    })
}

/// The edited text, which must be one that we accept: an added text may be no requirement at all.
fn finish(
    source: &Source,
    document: DocumentMut,
    packages: Vec<String>,
) -> Result<Edited, EditError> {
    let text = document.to_string();
    Manifest::parse(Source {
        path: source.path.clone(),
        text: text.as_str().into(),
    })?;
    Ok(Edited { text, packages })
}

/// `env.packages`. The file is valid, so where there is such a key it is an array.
fn packages(document: &mut DocumentMut) -> &mut Array {
    let environment = document
        .entry("env")
        .or_insert_with(|| Item::Table(Table::new()));
    let mut made = Array::new();
    if let Some(table) = environment.as_inline_table_mut()
        && !table.contains_key("packages")
        && let Some((_, last)) = table.iter_mut().last()
    {
        // The blank before the closing brace belongs behind the new value.
        let suffix = last.decor().suffix().cloned().unwrap_or_default();
        last.decor_mut().set_suffix("");
        made.decor_mut().set_suffix(suffix);
        made.decor_mut().set_prefix(" ");
    }
    let key = environment.as_table_like_mut().map(|table| {
        table
            .entry("packages")
            .or_insert_with(|| Item::Value(Value::Array(made)))
    });
    match key.and_then(Item::as_array_mut) {
        Some(array) => array,
        None => unreachable!("a valid file's [env] is a table and its packages an array"),
    }
}

/// Appends a text laid out like the one before it: on a line of its own where those are.
fn push_like_the_last(array: &mut Array, text: &str) {
    let several_lines = !array.is_empty() && array.iter().any(|v| prefix(v).contains('\n'))
        || array.trailing().as_str().is_some_and(|t| t.contains('\n'));
    if !several_lines {
        array.push(text);
        return;
    }
    let indent = match array.iter().last().map(prefix) {
        Some(prefix) => prefix.rsplit('\n').next().unwrap_or_default().to_owned(),
        None => "    ".to_owned(),
    };
    // A comment behind the last item hangs before the bracket or on the item itself; it belongs to that item, so it
    // stays on its line and the new one goes below.
    let trailing = array.trailing().as_str().unwrap_or_default().to_owned();
    let mut behind = String::new();
    if !array.is_empty() && !array.trailing_comma() {
        let last = array.len() - 1;
        if let Some(item) = array.get_mut(last) {
            behind = item
                .decor()
                .suffix()
                .and_then(RawString::as_str)
                .unwrap_or_default()
                .to_owned();
            item.decor_mut().set_suffix("");
        }
    }
    let kept = format!("{behind}{trailing}");
    let kept = kept.trim_end_matches([' ', '\t', '\n', '\r']);
    let mut value = Value::from(text);
    value.decor_mut().set_prefix(format!("{kept}\n{indent}"));
    array.push_formatted(value);
    array.set_trailing("\n");
    array.set_trailing_comma(true);
}

/// Takes an item out. A comment on the item's own line goes with it; those on lines of their own stay.
fn take(array: &mut Array, index: usize) -> String {
    let last = index + 1 == array.len();
    let before = array.get(index).map(prefix).unwrap_or_default().to_owned();
    let written = array
        .get(index)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let own_line = before.contains('\n');
    array.remove(index);
    // What stands between this item's comma and its line's end is in the prefix of the next item (or before the bracket).
    let above = match before.rfind('\n') {
        Some(newline) => before[..newline].to_owned(),
        None => String::new(),
    };
    if last {
        let trailing = array.trailing().as_str().unwrap_or_default();
        let rest = trailing
            .find('\n')
            .map_or("", |newline| &trailing[newline..]);
        let kept = if own_line {
            format!("{above}{rest}")
        } else {
            rest.to_owned()
        };
        array.set_trailing(kept);
        if array.is_empty()
            && array
                .trailing()
                .as_str()
                .is_some_and(|t| t.trim().is_empty())
        {
            array.set_trailing("");
        }
        if array.is_empty() {
            array.set_trailing_comma(false);
        }
    } else if let Some(next) = array.get_mut(index) {
        let after = prefix(next).to_owned();
        let next_prefix = match after.find('\n') {
            Some(newline) if own_line => format!("{above}{}", &after[newline..]),
            Some(_) => after,
            None => before,
        };
        next.decor_mut().set_prefix(next_prefix);
    }
    written
}

/// What stands before a value: blanks, line ends, comments.
fn prefix(value: &Value) -> &str {
    value
        .decor()
        .prefix()
        .and_then(RawString::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            path: "envd.toml".into(),
            text: text.into(),
        }
    }

    fn added(text: &str, packages: &[&str]) -> String {
        let packages: Vec<String> = packages.iter().map(|&p| p.to_owned()).collect();
        add(&source(text), &packages).unwrap().text
    }

    fn removed(text: &str, packages: &[&str]) -> String {
        let packages: Vec<String> = packages.iter().map(|&p| p.to_owned()).collect();
        remove(&source(text), &packages).unwrap().text
    }

    const LINES: &str = "\
# The project.
[env] # what it is made of
channels = [ \"debian:trixie\" ]   # stable
packages = [
    # compilers
    \"gcc\",   # C
    \"make\",

    # languages
    \"python3@3.13\", # the one we ship
    # more to come
]
home   =   'host'
";

    #[test]
    fn one_line_stays_one_line() {
        assert_eq!(
            added("[env]\npackages = [\"gcc\"] # tools\n", &["make", "git"]),
            "[env]\npackages = [\"gcc\", \"make\", \"git\"] # tools\n"
        );
        assert_eq!(
            removed(
                "[env]\npackages = [\"gcc\", \"make\", \"git\"] # tools\n",
                &["gcc"]
            ),
            "[env]\npackages = [\"make\", \"git\"] # tools\n"
        );
        assert_eq!(
            removed("[env]\npackages = [\"gcc\", \"make\"]\n", &["make"]),
            "[env]\npackages = [\"gcc\"]\n"
        );
        assert_eq!(
            removed("[env]\npackages = [\"gcc\"]\n", &["gcc"]),
            "[env]\npackages = []\n"
        );
    }

    #[test]
    fn lines_of_their_own_stay_so_with_every_comment() {
        let after = added(LINES, &["git"]);
        assert_eq!(
            after,
            LINES.replace("    # more to come\n", "    # more to come\n    \"git\",\n")
        );
    }

    #[test]
    fn what_was_added_can_be_removed_again_to_the_byte() {
        assert_eq!(
            removed(&added(LINES, &["git", "curl"]), &["curl", "git"]),
            LINES
        );
        let one_line = "[env]\npackages = [\"gcc\"]\n";
        assert_eq!(removed(&added(one_line, &["git"]), &["git"]), one_line);
    }

    #[test]
    fn a_package_goes_with_the_comment_on_its_line_and_no_other() {
        assert_eq!(
            removed(LINES, &["gcc"]),
            LINES.replace("    \"gcc\",   # C\n", "")
        );
        assert_eq!(
            removed(LINES, &["make"]),
            LINES.replace("    \"make\",\n", "")
        );
        assert_eq!(
            removed(LINES, &["python3"]),
            LINES.replace("    \"python3@3.13\", # the one we ship\n", "")
        );
    }

    #[test]
    fn the_last_line_without_a_comma_gets_one() {
        assert_eq!(
            added("[env]\npackages = [\n  \"gcc\" # C\n]\n", &["make"]),
            "[env]\npackages = [\n  \"gcc\", # C\n  \"make\",\n]\n"
        );
    }

    #[test]
    fn a_missing_array_is_made_in_its_section() {
        assert_eq!(
            added(
                "[env]\nhome = \"host\"\n\n[env.vars]\nA = \"1\"\n",
                &["gcc"]
            ),
            "[env]\nhome = \"host\"\npackages = [\"gcc\"]\n\n[env.vars]\nA = \"1\"\n"
        );
        assert_eq!(added("[env]\n", &["gcc"]), "[env]\npackages = [\"gcc\"]\n");
        assert_eq!(
            added("env = { home = \"host\" }\n", &["gcc"]),
            "env = { home = \"host\", packages = [\"gcc\"] }\n"
        );
        assert_eq!(
            added("[env]\npackages = [\n]\n", &["gcc"]),
            "[env]\npackages = [\n    \"gcc\",\n]\n"
        );
    }

    #[test]
    fn duplicates_are_refused_with_their_line() {
        let refused = |text, package: &str| {
            add(&source(text), &[package.to_owned()])
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused(LINES, "python3@3.11"),
            "`python3` is there already, as \"python3@3.13\" on line 10"
        );
        let twice = ["git".to_owned(), "git@2".to_owned()];
        assert_eq!(
            add(&source(LINES), &twice).unwrap_err().to_string(),
            "`git` was given twice"
        );
    }

    #[test]
    fn an_absent_package_is_refused_with_the_nearest() {
        let refused = remove(&source(LINES), &["pyton3".to_owned()])
            .unwrap_err()
            .to_string();
        assert_eq!(
            refused,
            "`pyton3` is not among the packages; did you mean `python3`?"
        );
        assert!(
            remove(&source(LINES), &["python3@3.11".to_owned()]).is_err(),
            "another constraint"
        );
    }

    #[test]
    fn what_is_no_package_never_gets_into_the_file() {
        for bad in ["", "two words", "@3", "a\nb"] {
            assert!(
                add(&source("[env]\n"), &[bad.to_owned()]).is_err(),
                "{bad:?}"
            );
        }
    }
}
