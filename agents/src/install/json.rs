//! Merging into JSON, with comments and trailing commas as editors allow them, without touching anything else.
//!
//! A parser that writes back would lose comments, order and layout. So the text is scanned for the place, and only there
//! something is put.

use std::ops::Range;

use serde_json::Value;

use super::{Installation, MergeError, NAME};

/// Deepest nesting that is scanned: more is no configuration.
const DEEPEST: usize = 128;

pub fn merged(installation: &Installation, existing: &str) -> Result<String, MergeError> {
    let at = |fault: Fault| installation.syntax(existing, fault.at, fault.problem);
    let servers = installation.servers();
    let Some(root) = root(existing).map_err(at)? else {
        let newline = newline(existing);
        let whole = pretty(&nested(installation, servers), "", "  ", newline);
        return Ok(format!("{existing}{whole}{newline}"));
    };
    let Some(list) = root.last(servers) else {
        let names = &nested(installation, servers)[servers];
        return Ok(root.with(existing, servers, names));
    };
    let mut scanner = Scanner::new(existing);
    scanner.at = list.start;
    if scanner.peek() != Some(b'{') {
        return Err(installation.not_a_table(servers));
    }
    let list = scanner.object().map_err(at)?;
    let Some(old) = list.last(NAME) else {
        return Ok(list.with(existing, NAME, &installation.entry));
    };
    let parsed = serde_json::from_str::<Value>(&plain(&existing[old.clone()]))
        .map_err(|error| installation.syntax(existing, old.start, error.to_string()))?;
    let wanted = installation.with_additions(&parsed);
    if parsed == wanted {
        return Ok(existing.to_owned());
    }
    let style = list.style(existing);
    let text = pretty(&wanted, &style.inner, &style.unit, newline(existing));
    let mut merged = existing.to_owned();
    merged.replace_range(old.clone(), &text);
    Ok(merged)
}

/// The entry below the keys that lead to it.
fn nested(installation: &Installation, servers: &str) -> Value {
    serde_json::json!({ servers: { NAME: installation.entry } })
}

/// The object that a file consists of, or nothing when it is blank.
fn root(text: &str) -> Result<Option<Object>, Fault> {
    let mut scanner = Scanner::new(text);
    scanner.skip_blank()?;
    if scanner.at == text.len() {
        return Ok(None);
    }
    let root = scanner.object()?;
    scanner.skip_blank()?;
    if scanner.at < text.len() {
        return Err(scanner.fault("something follows the end of the object"));
    }
    Ok(Some(root))
}

/// What is wrong, and at which byte.
struct Fault {
    at: usize,
    problem: &'static str,
}

/// Where an object of the text and its members are.
struct Object {
    open: usize,
    close: usize,
    members: Vec<Member>,
}

struct Member {
    key: String,
    start: usize,
    value: Range<usize>,
    /// Whether a comma follows.
    comma: bool,
}

/// How the lines of an object are laid out.
struct Style {
    outer: String,
    inner: String,
    unit: String,
}

impl Object {
    /// The value that counts when a key is there more than once.
    fn last(&self, key: &str) -> Option<&Range<usize>> {
        let member = self.members.iter().rfind(|member| member.key == key)?;
        Some(&member.value)
    }

    fn style(&self, text: &str) -> Style {
        let outer = indentation(text, self.open).to_owned();
        let inner = match self.members.first() {
            Some(member) if text[self.open..member.start].contains('\n') => {
                indentation(text, member.start).to_owned()
            }
            _ => format!("{outer}  "),
        };
        let unit = match inner.strip_prefix(&outer) {
            Some(unit) if !unit.is_empty() => unit.to_owned(),
            _ => "  ".to_owned(),
        };
        Style { outer, inner, unit }
    }

    /// The text with one more member at the end of this object.
    fn with(&self, text: &str, key: &str, value: &Value) -> String {
        let newline = newline(text);
        let Style { outer, inner, unit } = self.style(text);
        let mut merged = String::with_capacity(text.len() + 256);
        let kept_from = match self.members.last() {
            Some(member) => {
                merged.push_str(&text[..member.value.end]);
                if !member.comma {
                    merged.push(',');
                }
                member.value.end
            }
            None => {
                merged.push_str(&text[..=self.open]);
                self.open + 1
            }
        };
        // Comments behind the last member stay behind it.
        merged.push_str(text[kept_from..self.close].trim_end());
        merged.push_str(newline);
        merged.push_str(&inner);
        merged.push_str(&Value::from(key).to_string());
        merged.push_str(": ");
        merged.push_str(&pretty(value, &inner, &unit, newline));
        merged.push_str(newline);
        merged.push_str(&outer);
        merged.push_str(&text[self.close..]);
        merged
    }
}

/// White space at the beginning of the line on which a byte stands.
fn indentation(text: &str, at: usize) -> &str {
    let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let rest = &text[line..];
    &rest[..rest.len() - rest.trim_start_matches([' ', '\t']).len()]
}

fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// A value over several lines, all but the first behind an indentation.
fn pretty(value: &Value, indentation: &str, unit: &str, newline: &str) -> String {
    let inner = format!("{indentation}{unit}");
    match value {
        Value::Object(members) if !members.is_empty() => {
            let lines: Vec<String> = members
                .iter()
                .map(|(key, value)| {
                    let key = Value::from(key.as_str());
                    format!("{inner}{key}: {}", pretty(value, &inner, unit, newline))
                })
                .collect();
            let lines = lines.join(&format!(",{newline}"));
            format!("{{{newline}{lines}{newline}{indentation}}}")
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(Value::to_string).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// JSON without the comments and trailing commas that editors allow.
fn plain(text: &str) -> String {
    let mut scanner = Scanner::new(text);
    let mut plain = String::with_capacity(text.len());
    while scanner.at < text.len() {
        let start = scanner.at;
        // What has no end was refused before.
        if scanner.skip_blank().is_err() || scanner.at == text.len() {
            break;
        }
        if scanner.at > start {
            plain.push(' ');
            continue;
        }
        match text.as_bytes()[start] {
            b'"' => {
                if scanner.string().is_err() {
                    break;
                }
            }
            b',' => {
                scanner.at += 1;
                let mut ahead = Scanner::new(text);
                ahead.at = scanner.at;
                let _ = ahead.skip_blank();
                if matches!(text.as_bytes().get(ahead.at), Some(b'}' | b']')) {
                    continue;
                }
            }
            _ => scanner.at += text[start..].chars().next().map_or(1, char::len_utf8),
        }
        plain.push_str(&text[start..scanner.at]);
    }
    plain
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            depth: 0,
        }
    }

    fn fault(&self, problem: &'static str) -> Fault {
        Fault {
            at: self.at,
            problem,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips white space, a byte order mark and comments.
    fn skip_blank(&mut self) -> Result<(), Fault> {
        loop {
            let rest = self.rest();
            if let Some(line) = rest.strip_prefix("//") {
                self.at += 2 + line.find('\n').unwrap_or(line.len());
            } else if let Some(comment) = rest.strip_prefix("/*") {
                let end = comment
                    .find("*/")
                    .ok_or_else(|| self.fault("this comment has no end"))?;
                self.at += 2 + end + 2;
            } else {
                let blank = rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{FEFF}']);
                if blank.len() == rest.len() {
                    return Ok(());
                }
                self.at += rest.len() - blank.len();
            }
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.fault("expected a string"));
        }
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        loop {
            match bytes.get(at) {
                None | Some(b'\n') => return Err(self.fault("this string has no end")),
                Some(b'"') => break,
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
            }
        }
        let string = serde_json::from_str(&self.text[start..=at])
            .map_err(|_| self.fault("this string is not well-formed"))?;
        self.at = at + 1;
        Ok(string)
    }

    fn value(&mut self) -> Result<Range<usize>, Fault> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => {
                self.object()?;
            }
            Some(b'[') => self.array()?,
            Some(b'"') => {
                self.string()?;
            }
            _ => {
                let word: usize = self
                    .rest()
                    .bytes()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
                    .count();
                let well_formed = serde_json::from_str::<Value>(&self.text[start..start + word]);
                if well_formed.is_err() {
                    return Err(self.fault("expected a value"));
                }
                self.at += word;
            }
        }
        Ok(start..self.at)
    }

    fn deeper(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.fault("nested too deeply"));
        }
        self.at += 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), Fault> {
        self.deeper()?;
        loop {
            self.skip_blank()?;
            if self.peek() != Some(b']') {
                self.value()?;
                self.skip_blank()?;
            }
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    self.depth -= 1;
                    return Ok(());
                }
                _ => return Err(self.fault("expected a comma or the end of the list")),
            }
        }
    }

    fn object(&mut self) -> Result<Object, Fault> {
        let open = self.at;
        if self.peek() != Some(b'{') {
            return Err(self.fault("expected an object"));
        }
        self.deeper()?;
        let mut members = Vec::new();
        loop {
            self.skip_blank()?;
            if self.peek() == Some(b'}') {
                let close = self.at;
                self.at += 1;
                self.depth -= 1;
                return Ok(Object {
                    open,
                    close,
                    members,
                });
            }
            let start = self.at;
            let key = self.string()?;
            self.skip_blank()?;
            if self.peek() != Some(b':') {
                return Err(self.fault("expected a colon"));
            }
            self.at += 1;
            self.skip_blank()?;
            let value = self.value()?;
            self.skip_blank()?;
            let comma = self.peek() == Some(b',');
            if comma {
                self.at += 1;
            } else if self.peek() != Some(b'}') {
                return Err(self.fault("expected a comma or the end of the object"));
            }
            members.push(Member {
                key,
                start,
                value,
                comma,
            });
        }
    }
}
