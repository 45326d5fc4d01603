//! The files that give a project away, one function for each kind. Data formats are read as such, everything else by the line.

use std::{collections::BTreeSet, fs, path::Path};

use super::{Language, Range, Wish, read};

/// Directory entries looked at when guessing by file name endings.
const ENTRIES_MAX: usize = 2_000;

/// What the files of `root` ask for, those that pin versions first within each language.
pub(super) fn read_all(root: &Path) -> Vec<Wish> {
    let signs = [
        rust,
        python,
        node,
        go,
        ruby,
        php,
        java,
        tool_versions,
        cmake,
        meson,
        autotools,
        make,
    ];
    let mut wishes = Vec::new();
    for sign in signs {
        sign(root, &mut wishes);
    }
    sources(root, &mut wishes);
    wishes
}

fn wish(wishes: &mut Vec<Wish>, package: &'static str, why: impl Into<String>) {
    wishes.push(Wish {
        package,
        version: None,
        why: why.into(),
    });
}

fn versioned(
    wishes: &mut Vec<Wish>,
    package: &'static str,
    language: Language,
    range: Option<Range>,
    why: String,
) {
    wishes.push(Wish {
        package,
        version: range.map(|range| (language, range)),
        why,
    });
}

fn rust(root: &Path, wishes: &mut Vec<Wish>) {
    let manifest = read(&root.join("Cargo.toml"));
    let toolchain = ["rust-toolchain.toml", "rust-toolchain"]
        .into_iter()
        .find_map(|name| Some((name, read(&root.join(name))?)));
    if manifest.is_none() && toolchain.is_none() {
        return;
    }
    let mut asked = Vec::new();
    if let Some((name, text)) = toolchain {
        let table: Option<toml::Table> = text.parse().ok();
        let channel = match table {
            Some(table) => text_at(&table, &["toolchain", "channel"]),
            // The old form is the channel alone.
            None => Some(text.trim().to_owned()),
        };
        if let Some(channel) = channel {
            asked.push((
                Range::begins_with(&channel, 2),
                format!("{name} says {channel}"),
            ));
        }
    }
    if let Some(text) = manifest {
        let table: toml::Table = text.parse().unwrap_or_default();
        let version = text_at(&table, &["package", "rust-version"])
            .or_else(|| text_at(&table, &["workspace", "package", "rust-version"]));
        match version {
            Some(version) => {
                let why = format!("Cargo.toml says rust-version {version}");
                asked.push((Range::at_least(&version), why));
            }
            None => asked.push((None, "Cargo.toml".to_owned())),
        }
    }
    for package in ["cargo", "rustc"] {
        for (range, why) in &asked {
            versioned(wishes, package, Language::Rust, range.clone(), why.clone());
        }
    }
    wish(
        wishes,
        "ca-certificates",
        "cargo downloads crates over HTTPS",
    );
}

fn python(root: &Path, wishes: &mut Vec<Wish>) {
    if let Some(version) = first_word(root, ".python-version") {
        let why = format!(".python-version says {version}");
        versioned(
            wishes,
            "python3",
            Language::Python,
            Range::begins_with(&version, 2),
            why,
        );
    }
    let mut installs = None;
    if let Some(text) = read(&root.join("pyproject.toml")) {
        let table: toml::Table = text.parse().unwrap_or_default();
        let (range, why) = match text_at(&table, &["project", "requires-python"]) {
            Some(version) => (
                Range::parse(&version),
                format!("pyproject.toml says requires-python {version}"),
            ),
            None => (None, "pyproject.toml".to_owned()),
        };
        versioned(wishes, "python3", Language::Python, range, why);
        installs = Some("pyproject.toml");
    }
    for name in ["requirements.txt", "setup.py", "setup.cfg", "Pipfile"] {
        if root.join(name).is_file() {
            wish(wishes, "python3", name);
            installs = installs.or(Some(name));
        }
    }
    if let Some(name) = installs {
        wish(
            wishes,
            "python3-venv",
            format!("{name}: to install into a virtual environment"),
        );
        wish(wishes, "python3-pip", format!("{name}: to install"));
    }
}

fn node(root: &Path, wishes: &mut Vec<Wish>) {
    for name in [".nvmrc", ".node-version"] {
        if let Some(version) = first_word(root, name) {
            let why = format!("{name} says {version}");
            versioned(
                wishes,
                "nodejs",
                Language::Node,
                Range::begins_with(&version, 1),
                why,
            );
        }
    }
    if let Some(text) = read(&root.join("package.json")) {
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        match json["engines"]["node"].as_str() {
            Some(version) => {
                let why = format!("package.json says engines.node {version}");
                versioned(wishes, "nodejs", Language::Node, Range::parse(version), why);
            }
            None => wish(wishes, "nodejs", "package.json"),
        }
        wish(wishes, "npm", "package.json");
    }
}

fn go(root: &Path, wishes: &mut Vec<Wish>) {
    let Some(text) = read(&root.join("go.mod")) else {
        return;
    };
    let directive = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("go "));
    match directive.map(str::trim) {
        Some(version) => {
            // A release is 1.24 whatever its patch level is.
            let minor: Vec<&str> = version.split('.').take(2).collect();
            let range = Range::at_least(&minor.join("."));
            let why = format!("go.mod says go {version}");
            versioned(wishes, "golang-go", Language::Go, range, why);
        }
        None => wish(wishes, "golang-go", "go.mod"),
    }
    wish(wishes, "ca-certificates", "go downloads modules over HTTPS");
}

fn ruby(root: &Path, wishes: &mut Vec<Wish>) {
    if let Some(version) = first_word(root, ".ruby-version") {
        let version = version.trim_start_matches("ruby-").to_owned();
        let why = format!(".ruby-version says {version}");
        versioned(
            wishes,
            "ruby",
            Language::Ruby,
            Range::begins_with(&version, 2),
            why,
        );
    }
    let Some(text) = read(&root.join("Gemfile")) else {
        return;
    };
    let directive = text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("ruby ")?.trim();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        rest[1..].split(quote).next()
    });
    match directive {
        Some(version) => {
            let range = match version.starts_with(|c: char| c.is_ascii_digit()) {
                true => Range::begins_with(version, 2),
                false => Range::parse(version),
            };
            versioned(
                wishes,
                "ruby",
                Language::Ruby,
                range,
                format!("Gemfile says ruby {version}"),
            );
        }
        None => wish(wishes, "ruby", "Gemfile"),
    }
    wish(wishes, "ruby-dev", "Gemfile: to build gems with C parts");
    wish(wishes, "bundler", "Gemfile");
}

fn php(root: &Path, wishes: &mut Vec<Wish>) {
    let Some(text) = read(&root.join("composer.json")) else {
        return;
    };
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    match json["require"]["php"].as_str() {
        Some(version) => {
            let why = format!("composer.json says php {version}");
            versioned(wishes, "php-cli", Language::Php, Range::parse(version), why);
        }
        None => wish(wishes, "php-cli", "composer.json"),
    }
    wish(wishes, "composer", "composer.json");
}

fn java(root: &Path, wishes: &mut Vec<Wish>) {
    if let Some(version) = first_word(root, ".java-version") {
        let why = format!(".java-version says {version}");
        let range = Range::begins_with(&version, 1);
        versioned(wishes, "default-jdk-headless", Language::Java, range, why);
    }
    for (name, package) in [
        ("pom.xml", "maven"),
        ("build.gradle", "gradle"),
        ("build.gradle.kts", "gradle"),
    ] {
        if root.join(name).is_file() {
            // A wrapper brings the exact Gradle along.
            if package == "maven" || !root.join("gradlew").is_file() {
                wish(wishes, package, name);
            }
            wish(wishes, "default-jdk-headless", name);
        }
    }
}

/// The file of asdf and mise: a tool and its version on each line.
fn tool_versions(root: &Path, wishes: &mut Vec<Wish>) {
    const NAME: &str = ".tool-versions";
    let Some(text) = read(&root.join(NAME)) else {
        return;
    };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (Some(tool), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        let (packages, language, keep): (&[&'static str], _, _) = match tool {
            "python" => (&["python3"], Language::Python, 2),
            "nodejs" | "node" => (&["nodejs"], Language::Node, 1),
            "golang" | "go" => (&["golang-go"], Language::Go, 2),
            "rust" => (&["cargo", "rustc"], Language::Rust, 2),
            "ruby" => (&["ruby"], Language::Ruby, 2),
            "php" => (&["php-cli"], Language::Php, 2),
            _ => continue,
        };
        for package in packages {
            let why = format!("{NAME} says {tool} {version}");
            versioned(
                wishes,
                package,
                language,
                Range::begins_with(version, keep),
                why,
            );
        }
    }
}

fn cmake(root: &Path, wishes: &mut Vec<Wish>) {
    const NAME: &str = "CMakeLists.txt";
    let Some(text) = read(&root.join(NAME)) else {
        return;
    };
    wish(wishes, "cmake", NAME);
    wish(wishes, "make", "CMakeLists.txt: cmake's default generator");
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    // Without LANGUAGES a project is in C and C++.
    let named = words.contains("C") || words.contains("CXX");
    if words.contains("C") || !named {
        c(wishes, NAME);
    }
    if words.contains("CXX") || !named {
        wish(wishes, "g++", NAME);
    }
}

fn meson(root: &Path, wishes: &mut Vec<Wish>) {
    const NAME: &str = "meson.build";
    let Some(text) = read(&root.join(NAME)) else {
        return;
    };
    wish(wishes, "meson", NAME);
    if text.contains("'c'") {
        c(wishes, NAME);
    }
    if text.contains("'cpp'") {
        wish(wishes, "g++", NAME);
    }
}

fn autotools(root: &Path, wishes: &mut Vec<Wish>) {
    const NAME: &str = "configure.ac";
    if root.join(NAME).is_file() {
        for package in ["autoconf", "automake", "libtool", "make"] {
            wish(wishes, package, NAME);
        }
        c(wishes, NAME);
    }
}

fn make(root: &Path, wishes: &mut Vec<Wish>) {
    for name in ["GNUmakefile", "makefile", "Makefile"] {
        if root.join(name).is_file() {
            wish(wishes, "make", name);
        }
    }
}

/// The compiler, and the headers that it only recommends.
fn c(wishes: &mut Vec<Wish>, why: &str) {
    wish(wishes, "gcc", why);
    wish(wishes, "libc6-dev", format!("{why}: the C headers"));
}

/// By the endings of source files, for languages that nothing else gave away.
fn sources(root: &Path, wishes: &mut Vec<Wish>) {
    let mut seen = BTreeSet::new();
    for directory in [root.to_owned(), root.join("src")] {
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        for entry in entries.take(ENTRIES_MAX).flatten() {
            let name = entry.file_name();
            if let Some(ending) = Path::new(&name).extension().and_then(|e| e.to_str()) {
                seen.insert(ending.to_owned());
            }
        }
    }
    let has = |wishes: &[Wish], package: &str| wishes.iter().any(|w| w.package == package);
    for (ending, package) in [
        ("py", "python3"),
        ("js", "nodejs"),
        ("mjs", "nodejs"),
        ("rs", "rustc"),
        ("go", "golang-go"),
        ("rb", "ruby"),
        ("php", "php-cli"),
        ("pl", "perl"),
        ("lua", "lua5.4"),
        ("java", "default-jdk-headless"),
        ("hs", "ghc"),
        ("R", "r-base-core"),
        ("cpp", "g++"),
        ("cc", "g++"),
        ("cxx", "g++"),
    ] {
        if seen.contains(ending) && !has(wishes, package) {
            wish(wishes, package, format!("there are .{ending} files"));
        }
    }
    // A crate's or a gem's C files are its build's business.
    let built_otherwise = ["rustc", "ruby-dev", "npm", "golang-go"]
        .iter()
        .any(|p| has(wishes, p));
    if seen.contains("c") && !built_otherwise && !has(wishes, "gcc") {
        c(wishes, "there are .c files");
    }
}

/// The first word of a small file, without comments.
fn first_word(root: &Path, name: &str) -> Option<String> {
    let text = read(&root.join(name))?;
    let line = text
        .lines()
        .map(|l| l.split('#').next().unwrap_or_default().trim())
        .find(|l| !l.is_empty())?;
    line.split_whitespace().next().map(str::to_owned)
}

/// The text at a path of keys.
fn text_at(table: &toml::Table, keys: &[&str]) -> Option<String> {
    let (last, tables) = keys.split_last()?;
    let mut table = table;
    for key in tables {
        table = table.get(*key)?.as_table()?;
    }
    table.get(*last)?.as_str().map(str::to_owned)
}
