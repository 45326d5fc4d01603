//! What a session may not change, however it goes about it.

use std::fs;

use envd_agents::changes::{
    Guard, OfRefused, Scope,
    protected::{self, Protected},
};

use crate::session::{Session, path};

/// The rule and path of each denial.
fn denials(session: &Session) -> Vec<String> {
    let rule = |line: &String| {
        let (path, rest) = line.split_once(" is protected by the rule ")?;
        Some(format!("{path}: {}", rest.split(':').next()?))
    };
    session
        .refusals(&Guard::default())
        .iter()
        .filter_map(rule)
        .collect()
}

/// An attacker would have the owner's next `git`, shell, editor, agent or CI run a program of theirs.
#[test]
fn what_runs_on_its_own_is_denied_even_where_nothing_was() {
    let session = Session::new();
    session.inside(
        "mkdir -p .vscode .github/workflows sub; echo x > .vscode/tasks.json
         echo x > .github/workflows/ci.yml; echo x > .envrc; echo x > sub/CLAUDE.md; echo x > .mcp.json
         echo x > .gitmodules; echo x > ok.c",
    );
    assert_eq!(
        denials(&session),
        [
            ".envrc: directory-environment",
            ".github/workflows: ci",
            ".github/workflows/ci.yml: ci",
            ".gitmodules: git-modules",
            ".mcp.json: agent-settings",
            ".vscode: editor-settings",
            ".vscode/tasks.json: editor-settings",
            "sub/CLAUDE.md: agent-settings",
        ]
    );
    // The owner is told how, and it works.
    let refusals = session.refusals(&Guard::default());
    assert!(refusals[0].contains("--allow .envrc"), "{refusals:?}");
    let guard = Guard {
        allow: [
            ".envrc",
            ".github",
            ".gitmodules",
            ".mcp.json",
            ".vscode",
            "sub/CLAUDE.md",
        ]
        .map(path)
        .into(),
        ..Guard::default()
    };
    session.apply(&guard).unwrap();
    assert!(session.project(".github/workflows/ci.yml").exists());
}

/// An attacker would have the owner's editor run their program in the place of the project's compiler.
#[test]
fn the_shims_are_protected() {
    let session = Session::new();
    session.inside("mkdir -p .envd/bin; echo x > .envd/bin/cc; mkdir .envd-apply-0");
    let denied = denials(&session);
    assert_eq!(denied.len(), 4, "{denied:?}");
    assert!(
        denied.iter().all(|line| line.ends_with("envd-directory")),
        "{denied:?}"
    );
}

#[test]
fn the_rest_can_be_applied_without_what_is_denied() {
    let session = Session::new();
    session
        .write(".github/workflows/ci.yml", "1")
        .write("a", "1");
    session.inside("echo 2 > a; rm -r .github; echo 2 > .envrc");
    let guard = Guard {
        refused: OfRefused::LeaveOut,
        ..Guard::default()
    };
    let applied = session.apply(&guard).unwrap();
    assert_eq!(applied.paths.len(), 1);
    assert_eq!(applied.refused.len(), 4, "{applied:?}");
    let json = serde_json::to_value(applied.report()).unwrap();
    assert_eq!(json["applied"][0]["path"], "a");
    assert_eq!(json["applied"][0]["change"], "modified");
    assert_eq!(json["refused"][0]["path"], ".envrc");
    assert_eq!(json["refused"][0]["kind"], "protected");
    assert_eq!(json["refused"][0]["rule"], "directory-environment");
    assert!(session.project(".github/workflows/ci.yml").exists());
}

/// An attacker would get at a protected file by moving the directory it is in away and making another.
#[test]
fn a_parent_moved_away_and_made_again_changes_nothing() {
    let session = Session::new();
    session
        .write(".github/workflows/ci.yml", "1")
        .write(".vscode/a", "1");
    session.inside(
        "mv .github github; mkdir -p .github/workflows; echo 2 > .github/workflows/ci.yml
         mkdir x; echo 2 > x/tasks.json; mv .vscode old; mv x .vscode",
    );
    let denied = denials(&session);
    for name in [
        ".github/workflows/ci.yml",
        ".vscode/a",
        ".vscode/tasks.json",
    ] {
        assert!(
            denied.iter().any(|line| line.starts_with(name)),
            "{name} {denied:?}"
        );
    }
}

/// An attacker would have the protected name lead to a place that no rule knows.
#[test]
fn links_to_and_above_protected_places_are_denied() {
    let session = Session::new();
    session.write(".git/config", "");
    session.inside(
        "mkdir -p gh/workflows; echo x > gh/workflows/ci.yml; ln -s gh .github
         ln -s .git/hooks hooks; ln -s x .vscode",
    );
    assert_eq!(
        denials(&session),
        [
            ".github: agent-settings",
            ".vscode: editor-settings",
            "hooks: git-directory"
        ]
    );
}

/// An attacker would write `.git` in a way that only the owner's file system reads as `.git`.
#[test]
fn names_that_a_file_system_folds_are_denied() {
    let session = Session::new();
    session.inside(
        "mkdir .GIT; echo x > .GIT/config; mkdir .gIt.; mkdir 'git~1'; echo x > .EnvRC
         mkdir -p .GitHub/Workflows; printf x > \"$(printf '.g\\342\\200\\214itmodules')\"",
    );
    let denied = denials(&session);
    assert_eq!(denied.len(), 7, "{denied:?}");
}

/// An attacker would have git run in a repository of theirs as soon as the owner's shell prompt enters the directory: in one with
/// `.git`, or in one that is bare and looks like any directory.
#[test]
fn repositories_made_inside_are_denied_in_parts_and_whole() {
    let session = Session::new();
    session
        .write("half/objects/.keep", "")
        .write("half/refs/.keep", "");
    session.inside(
        "mkdir -p bare/objects bare/refs bare/hooks; echo 'ref: refs/heads/x' > bare/HEAD; echo x > bare/config
         echo x > bare/README; echo x > half/HEAD; echo x > half/config
         mkdir wt; echo x > wt/HEAD; echo .. > wt/commondir
         mkdir -p fine/hooks fine/config; echo x > fine/HEAD",
    );
    let denied = denials(&session);
    let paths: Vec<_> = denied
        .iter()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "bare/HEAD",
            "bare/config",
            "bare/hooks",
            "bare/objects",
            "bare/refs",
            "half/HEAD",
            "half/config",
            "wt/HEAD",
            "wt/commondir",
        ]
    );
    // `.git` itself is not even listed; asked for, it is denied.
    let session = Session::new();
    session.inside(
        "mkdir -p sub/.git/hooks; echo x > sub/.git/hooks/post-checkout; echo 'gitdir: x' > .git",
    );
    let scope = Scope {
        git: true,
        ..Scope::default()
    };
    let changes = session.layers().changes(&scope).unwrap();
    let base = session.begin();
    let none = envd_agents::changes::NoBaseContent;
    let all = envd_agents::changes::Chosen::All;
    let result = session
        .layers()
        .apply(&changes, &all, &Guard::default(), &base, &none);
    assert_eq!(crate::session::refused(result).len(), 4);
}

/// An attacker would have the owner's `git add` run a filter on a chosen file, or widen what the next session may do.
#[test]
fn settings_inside_files_are_judged_by_what_they_say() {
    let session = Session::new();
    session
        .write(".gitattributes", "*.png filter=lfs\n")
        .write("envd.toml", "[env]\npackages = []\n");
    session.inside("echo '*.c text' >> .gitattributes; echo '[task.x]' >> envd.toml");
    session.apply(&Guard::default()).unwrap();
    session.inside("echo '*.c filter=x' >> .gitattributes; printf '[agent]\\nnetwork = \"host\"\\n' >> envd.toml");
    assert_eq!(
        denials(&session),
        [".gitattributes: git-attributes", "envd.toml: envd-agent"]
    );
    // Larger than is judged, it is denied unread.
    let session = Session::new();
    session
        .inside("head -c 2000000 /dev/zero | tr '\\0' '\\n' > .gitattributes; ln -s x envd.toml");
    assert_eq!(
        denials(&session),
        [".gitattributes: git-attributes", "envd.toml: envd-agent"]
    );
}

/// The owner's own configuration runs programs of the project: an attacker would change those instead.
#[test]
fn programs_that_the_repository_s_configuration_runs_are_protected() {
    let session = Session::new();
    session.write(
        ".git/config",
        "[core]\n\thooksPath = tools/hooks\n[filter \"x\"]\n\tclean = ./tools/clean.sh %f\n",
    );
    session.inside("mkdir -p tools/hooks; echo x > tools/hooks/pre-commit; echo x > tools/clean.sh; echo x > tools/ok");
    let configuration = fs::read(session.project(".git/config")).unwrap();
    let top = session.project("");
    let programs = protected::programs_of_git(&configuration, &top, &top);
    let guard = Guard {
        protected: Protected::default().with_programs(&programs),
        ..Guard::default()
    };
    let refusals = session.refusals(&guard);
    assert_eq!(refusals.len(), 3, "{refusals:?}");
    assert!(refusals.iter().all(|line| line.contains("git-programs")));
}
