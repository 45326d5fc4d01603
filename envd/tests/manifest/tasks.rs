//! Tasks as people write them, and as they get them wrong.

use envd_supervision::Name;

use crate::parse;

fn refused(text: &str) -> String {
    parse(text)
        .expect_err("a wrong file is refused")
        .to_string()
}

#[test]
fn a_task_with_everything_is_read() {
    let manifest = parse(
        r#"[env]
[service.db]
run = "x"
[task.build]
run = "make"
inputs = ["src/", "Makefile", "*.py"]
outputs = ["build/app"]
[task.test]
run = ["./test", "{port.db}"]
needs = ["build"]
services = ["db"]
env = { CI = "1" }
"#,
    )
    .unwrap();
    let (build, test) = (&manifest.tasks["build"], &manifest.tasks["test"]);
    let inputs: Vec<String> = build
        .inputs
        .iter()
        .flatten()
        .map(|i| i.get_ref().to_string())
        .collect();
    assert_eq!(inputs, ["src/", "Makefile", "*.py"]);
    assert_eq!(build.outputs, ["build/app"]);
    assert_eq!(test.inputs, None, "without the key nobody knows");
    assert_eq!(test.needs[0].get_ref().as_str(), "build");
    assert_eq!(test.services[0].get_ref().as_str(), "db");
    assert_eq!(test.variables["CI"].as_written(), "1");
    assert_eq!(test.ports().map(Name::as_str).collect::<Vec<_>>(), ["db"]);
}

#[test]
fn mistakes_are_placed() {
    insta::assert_snapshot!(refused(
        r#"[env]
[service.db]
run = "x"
[task.build]
run = "make"
input = ["src/"]
[task.test]
needs = ["biuld", "test"]
services = ["bd"]
run = "x"
inputs = ["/etc", "../x", "", "a"]
outputs = ["*.o", ".", "../y"]
[task.no-run]
"#
    ));
}

#[test]
fn a_fault_in_one_is_not_told_again_by_others() {
    let shown = refused(
        "[env]\n[service.db]\n[task.a]\n[task.b]\nrun = \"x\"\nneeds = [\"a\"]\nservices = [\"db\"]\n",
    );
    assert_eq!(shown.matches("-->").count(), 2, "{shown}");
}

#[test]
fn circles_are_shown_as_chains() {
    insta::assert_snapshot!(refused(
        "[env]\n[task.b]\nrun = \"x\"\nneeds = [\"a\"]\n[task.a]\nrun = \"x\"\nneeds = [\"c\"]\n[task.c]\nrun = \"x\"\nneeds = [\"b\"]\n"
    ));
}
