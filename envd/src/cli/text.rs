//! The first page of help. Written out, because clap cannot group commands; a test holds it to the commands there are.

/// `envd --help`
pub(super) const HELP: &str = "\
{about}

Usage: envd [OPTIONS] COMMAND …

Project (envd.toml, envd.lock)
  init         Write an envd.toml from what is here
  add          Add packages to envd.toml
  remove       Remove packages from envd.toml
  search       Find packages by name and description
  lock         Choose versions and write envd.lock
  update       Choose newer versions, of all packages or of some
  why          Explain why a package is in the environment
  list         List the packages of the environment
  generations  List what the environment has been, to roll back to
  rollback     Go back to what the environment was
Environment
  run          Run a command in the project's environment
  enter        Open a shell in the project's environment
  x            Run a tool once, from no project at all
  task         Run a task of envd.toml, after those that it needs
  up           Start the project's services and wait until they are ready
  down         Stop the project's services
  ps           Say how the project's services are
  logs         Print what the project's services have written
  lease        Run a command that ends with its time or its owner
  daemon       Look after the daemon that keeps the project's environments ready
  shim         Make files named like the tools, for editors, hooks and cron
  agent        Lend environments to coding agents
  image        Write the environment as an OCI image
Store
  store        Look at the store, check and repair it
  gc           Free what no project uses any more
envd itself
  doctor       Say what this machine can do, and how to fix what it cannot
  completions  Print a shell's completions
  schema       Print the JSON Schema of envd.toml
  uninstall    Remove everything envd ever made

{options}

Examples: envd init && envd run -- make test; envd x hello -- hello
Exit codes: 2 usage, 3 no solution, 4 download, 5 integrity, 6 this machine, 7 store, 1 others.
";
