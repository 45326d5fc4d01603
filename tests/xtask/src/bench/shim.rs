//! `true` through a shim, a whole process, against itself and through others' shims: mise's where that is on PATH, and one as version
//! managers in Bash have them (`shim.bash`, which does the least that such a one must).

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{warm::Warm, world::World};
use crate::{
    machine::workspace,
    measure::{Result, interleaved, median, time},
    table::{Row, seconds},
};

const WARM_UP: usize = 20;
const ROUNDS: usize = 300;
/// What a shim may cost over the tool itself.
const OVER: Duration = Duration::from_micros(1500);
/// And as a part of what mise costs.
const PART: u32 = 5;

/// Rows of the table.
pub fn rows(world: &World) -> Result<Vec<Row>> {
    let warm = Warm::start(world)?;
    time(&mut warm.envd(&["shim", "install"]))?;
    let path = warm.project.join(".envd/bin/true");
    let shim = || warm.program(&path);
    let (bash, installs) = bash_shim(&world.directory)?;
    let bash = || {
        let mut command = Command::new(&bash);
        command
            .current_dir(&installs)
            .env("INSTALLS", installs.join("installs"));
        command
    };
    let mise = Mise::find(&world.directory)?;
    let measured = |rounds| {
        interleaved(
            rounds,
            [
                &mut || time(&mut shim()),
                &mut || time(&mut Command::new("true")),
                &mut || time(&mut bash()),
            ],
        )
    };
    measured(WARM_UP)?;
    let [ours, bare, bash] = measured(ROUNDS)?.map(|samples| median(&samples));
    let mise = mise.map(|mise| mise.time()).transpose()?;
    let over = ours.saturating_sub(bare);
    let within = mise.is_none_or(|mise| ours * PART < mise);
    let others = match mise {
        Some(mise) => format!("`mise exec -- true` {}", seconds(mise)),
        None => "mise is not installed here".to_owned(),
    };
    let ratio = mise.map_or(String::new(), |mise| {
        let ratio = ours.as_secs_f64() / mise.as_secs_f64();
        format!("; {ratio:.2} × mise")
    });
    Ok(vec![Row {
        what: "`true` through a shim, a whole process".to_owned(),
        ours: seconds(ours),
        peer: format!(
            "{} (`true` alone; {others}; a Bash shim {})",
            seconds(bare),
            seconds(bash)
        ),
        target: format!(
            "under {} more than alone; under a fifth of `mise exec`",
            seconds(OVER)
        ),
        met: over < OVER && within,
        distance: format!("{} more{ratio}", seconds(over)),
    }])
}

/// A Bash shim for `true`, and the directory in which it finds what is wanted.
fn bash_shim(directory: &Path) -> Result<(PathBuf, PathBuf)> {
    let home = directory.join("shim-bash");
    let _ = fs::remove_dir_all(&home);
    let bin = home.join("installs/true/1.0/bin");
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(home.join("shims"))?;
    fs::write(home.join(".tool-versions"), "nodejs 22.1.0\ntrue 1.0\n")?;
    symlink("/usr/bin/true", bin.join("true"))?;
    let shim = home.join("shims/true");
    fs::copy(workspace().join("tests/xtask/src/bench/shim.bash"), &shim)?;
    Ok((shim, home))
}

/// mise, in a project that asks for nothing, and with a home of its own.
struct Mise(PathBuf);

impl Mise {
    /// If there is one.
    fn find(directory: &Path) -> Result<Option<Self>> {
        let mut version = Command::new("mise");
        version
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !version.status().is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let home = directory.join("shim-mise");
        fs::create_dir_all(&home)?;
        fs::write(home.join("mise.toml"), "[tools]\n")?;
        let mise = Self(home);
        time(mise.command().args(["trust", "--quiet", "mise.toml"]))?;
        Ok(Some(mise))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("mise");
        command
            .current_dir(&self.0)
            .env("HOME", &self.0)
            .env("MISE_OFFLINE", "1")
            .stderr(Stdio::null());
        command
    }

    fn time(&self) -> Result<Duration> {
        let mut exec = || time(self.command().args(["exec", "--", "true"]));
        interleaved(WARM_UP / 4, [&mut exec])?;
        let [samples] = interleaved(ROUNDS / 10, [&mut exec])?;
        Ok(median(&samples))
    }
}
