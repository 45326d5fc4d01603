//! What editors ask for when they want to know where a tool is: the settings' names, as data.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// How a setting takes a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// As a text.
    Text,
    /// As a list of one.
    List,
    /// Under the tool's name in a table, beside others.
    Table,
}

/// Settings of Visual Studio Code and its extensions: name, form, the tools that serve, the best first.
const VSCODE: &[(&str, Form, &[&str])] = &[
    ("C_Cpp.default.compilerPath", Form::Text, &["gcc", "clang"]),
    ("bashIde.shellcheckPath", Form::Text, &["shellcheck"]),
    ("clang-format.executable", Form::Text, &["clang-format"]),
    ("clangd.path", Form::Text, &["clangd"]),
    ("cmake.cmakePath", Form::Text, &["cmake"]),
    ("deno.path", Form::Text, &["deno"]),
    ("eslint.runtime", Form::Text, &["node", "nodejs"]),
    (
        "go.alternateTools",
        Form::Table,
        &["go", "gopls", "dlv", "golangci-lint", "staticcheck"],
    ),
    (
        "haskell.serverExecutablePath",
        Form::Text,
        &["haskell-language-server-wrapper", "haskell-language-server"],
    ),
    ("makefile.makePath", Form::Text, &["make"]),
    ("mesonbuild.mesonPath", Form::Text, &["meson"]),
    ("mypy-type-checker.path", Form::List, &["mypy"]),
    ("perl.perlCmd", Form::Text, &["perl"]),
    ("php.validate.executablePath", Form::Text, &["php"]),
    (
        "python.defaultInterpreterPath",
        Form::Text,
        &["python3", "python"],
    ),
    ("rubyLsp.rubyExecutablePath", Form::Text, &["ruby"]),
    ("ruff.path", Form::List, &["ruff"]),
    ("rust-analyzer.server.path", Form::Text, &["rust-analyzer"]),
    ("shellcheck.executablePath", Form::Text, &["shellcheck"]),
    (
        "typescript.tsserver.nodePath",
        Form::Text,
        &["node", "nodejs"],
    ),
    ("zig.path", Form::Text, &["zig"]),
    ("zig.zls.path", Form::Text, &["zls"]),
];

/// What JetBrains' editors ask for: the product, where to paste it, what it is called there, the tools that serve.
const JETBRAINS: &[(&str, &str, &str, &[&str])] = &[
    (
        "PyCharm",
        "Settings | Python | Interpreter | Add Interpreter | Add Local Interpreter | Select existing",
        "Python path",
        &["python3", "python"],
    ),
    (
        "RustRover",
        "Settings | Rust",
        "Toolchain location",
        &["cargo"],
    ),
    (
        "CLion",
        "Settings | Build, Execution, Deployment | Toolchains",
        "CMake",
        &["cmake"],
    ),
    (
        "CLion",
        "Settings | Build, Execution, Deployment | Toolchains",
        "Build Tool",
        &["ninja", "make"],
    ),
    (
        "CLion",
        "Settings | Build, Execution, Deployment | Toolchains",
        "C Compiler",
        &["gcc", "clang", "cc"],
    ),
    (
        "CLion",
        "Settings | Build, Execution, Deployment | Toolchains",
        "C++ Compiler",
        &["g++", "clang++", "c++"],
    ),
    (
        "CLion",
        "Settings | Build, Execution, Deployment | Toolchains",
        "Debugger",
        &["gdb", "lldb"],
    ),
    (
        "WebStorm",
        "Settings | Languages & Frameworks | Node.js",
        "Node interpreter",
        &["node", "nodejs"],
    ),
    (
        "WebStorm",
        "Settings | Languages & Frameworks | Node.js",
        "Package manager",
        &["pnpm", "yarn", "yarnpkg", "npm"],
    ),
    (
        "WebStorm",
        "Settings | Languages & Frameworks | Deno",
        "Path to the Deno executable",
        &["deno"],
    ),
    (
        "PhpStorm",
        "Settings | PHP | CLI Interpreter",
        "PHP executable",
        &["php"],
    ),
    (
        "RubyMine",
        "Settings | Languages & Frameworks | Ruby SDK and Gems",
        "Ruby interpreter",
        &["ruby"],
    ),
];

/// The setting whose value is the directory that the tool is in.
const WHOLE_DIRECTORY: &str = "Toolchain location";

/// Settings for Visual Studio Code. `shim` gives the path of a tool's shim, if there is one.
pub fn vscode(shim: &dyn Fn(&str) -> Option<PathBuf>) -> Value {
    let mut settings = Map::new();
    for (name, form, tools) in VSCODE {
        let mut found = tools
            .iter()
            .filter_map(|tool| Some((*tool, text(&shim(tool)?))));
        let value = match form {
            Form::Text => found.next().map(|(_, path)| json!(path)),
            Form::List => found.next().map(|(_, path)| json!([path])),
            Form::Table => {
                let table: Map<String, Value> = found
                    .map(|(tool, path)| (tool.to_owned(), json!(path)))
                    .collect();
                (!table.is_empty()).then_some(Value::Object(table))
            }
        };
        if let Some(value) = value {
            settings.insert((*name).to_owned(), value);
        }
    }
    Value::Object(settings)
}

/// A field of a JetBrains editor.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Field {
    /// The editor. Others of the same house have the same page by a plugin.
    pub product: &'static str,
    /// Where it is set.
    pub place: &'static str,
    /// What it is called there.
    pub field: &'static str,
    /// What to paste.
    pub value: String,
}

/// What to paste into JetBrains' editors. `shim` as for [`vscode`].
pub fn jetbrains(shim: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<Field> {
    let field =
        |(product, place, field, tools): &(&'static str, &'static str, &'static str, &[&str])| {
            let path = tools.iter().find_map(|tool| shim(tool))?;
            let value = match *field {
                WHOLE_DIRECTORY => text(path.parent()?),
                _ => text(&path),
            };
            Some(Field {
                product,
                place,
                field,
                value,
            })
        };
    JETBRAINS.iter().filter_map(field).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn having(tools: &'static [&'static str]) -> impl Fn(&str) -> Option<PathBuf> {
        |tool| {
            tools
                .contains(&tool)
                .then(|| Path::new("/p/.envd/bin").join(tool))
        }
    }

    #[test]
    fn vscode_is_told_of_tools_that_are_there_and_no_others() {
        let settings = vscode(&having(&["python3", "python", "go", "gopls", "ruff"]));
        assert_eq!(
            settings,
            json!({
                "go.alternateTools": {"go": "/p/.envd/bin/go", "gopls": "/p/.envd/bin/gopls"},
                "python.defaultInterpreterPath": "/p/.envd/bin/python3",
                "ruff.path": ["/p/.envd/bin/ruff"],
            })
        );
        assert_eq!(vscode(&having(&[])), json!({}));
    }

    #[test]
    fn jetbrains_is_told_files_and_for_rust_their_directory() {
        let fields = jetbrains(&having(&["cargo", "node", "npm"]));
        let values: Vec<_> = fields
            .iter()
            .map(|field| (field.product, &*field.value))
            .collect();
        assert_eq!(
            values,
            [
                ("RustRover", "/p/.envd/bin"),
                ("WebStorm", "/p/.envd/bin/node"),
                ("WebStorm", "/p/.envd/bin/npm")
            ]
        );
    }

    /// Settings are pasted beside each other: one that comes twice would hide the other.
    #[test]
    fn each_setting_is_there_once() {
        let mut names: Vec<_> = VSCODE.iter().map(|(name, ..)| name).collect();
        assert!(names.is_sorted(), "in order, to be found");
        names.dedup();
        assert_eq!(names.len(), VSCODE.len());
    }
}
