//! Realising G from downloaded archives, and G with one more package, against mmdebstrap with a warm cache (which adds
//! apt and what apt needs: some twenty packages of 547).
//!
//! Ours starts from an empty store into whose `fetch/` the .debs were linked, with the lock written; it ends when the view
//! is ready and `true` has run in it. Theirs starts from an empty directory into whose apt cache the same .debs are
//! linked; it fetches the indexes, which ours has in its lock, and ends with the directory.
//!
//! What a run made stays until all have been measured. ext4 without a journal passes over inodes that were deleted within the
//! last minutes and looks at each: a run right after 100,000 removals was charged up to twice its own time for them, ours (which
//! makes more files at once) more than theirs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::world::{ALSO, G, World};
use crate::{
    machine::succeed,
    measure::{Result, Sample, interleaved, median, peak, time, time_and_peak},
    table::{Row, mebibytes, seconds},
};

fn packages() -> Vec<&'static str> {
    G.iter().chain(&ALSO).copied().collect()
}

/// The project G with its lock, and a store in which it is realised and its downloads are kept.
fn realised(world: &World) -> Result<(PathBuf, PathBuf)> {
    let project = world.project("g", "debian:bookworm", &packages())?;
    let store = world.store("g");
    let arguments = ["run", "--", "true"];
    succeed(&mut world.envd(&project, &store, &arguments))?;
    Ok((project, store))
}

/// Keeps the downloads of G: links to them, or, where envd does not keep them once unpacked, a download of its own.
fn keep_downloads(world: &World, project: &Path, store: &Path) -> Result<PathBuf> {
    let kept = world.directory.join("downloads");
    let lock = fs::read_to_string(project.join("envd.lock"))?;
    let wanted = artifacts(&lock);
    if wanted.is_empty() {
        return Err("the lock names no .deb".into());
    }
    fs::create_dir_all(&kept)?;
    for (path, digest) in wanted {
        let target = kept.join(&digest);
        if target.exists() {
            continue;
        }
        let fetched = store.join("fetch").join(&digest);
        if fs::hard_link(&fetched, &target).is_ok() {
            continue;
        }
        let part = kept.join(format!("{digest}.part"));
        let base = if path.contains("://") {
            String::new()
        } else {
            "http://deb.debian.org/debian/".to_owned()
        };
        let get = |address: &str| {
            succeed(
                Command::new("curl")
                    .args([
                        "--silent",
                        "--show-error",
                        "--fail",
                        "--location",
                        "--output",
                    ])
                    .arg(&part)
                    .arg(address),
            )
        };
        let address = format!("{base}{path}");
        // What is not in the archive proper is a security update.
        get(&address).or_else(|_| get(&address.replace("org/debian/", "org/debian-security/")))?;
        fs::rename(&part, &target)?;
    }
    Ok(kept)
}

/// Path and SHA-256 of every .deb in a lock: each artifact is one table or one line that holds both.
fn artifacts(lock: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut path = None;
    let mut digest = None;
    for word in lock.split('"') {
        if word.ends_with(".deb") {
            path = Some(word.to_owned());
        }
        let bare = word.strip_prefix("sha256:").unwrap_or(word);
        if bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            digest = Some(bare.to_owned());
        }
        if word.contains("[[") {
            (path, digest) = (None, None);
        }
        if path.is_some()
            && digest.is_some()
            && let (Some(path), Some(digest)) = (path.take(), digest.take())
        {
            found.push((path, digest));
        }
    }
    found
}

/// Rows of the table.
pub fn rows(world: &World) -> Result<Vec<Row>> {
    let (project, store) = realised(world)?;
    let kept = keep_downloads(world, &project, &store)?;
    let cache = world.directory.join("apt-cache");
    let primed = world.directory.join("primed");
    prime(&cache, &primed, world)?;
    let mut used = vec![primed];
    let (mut ours_made, mut theirs_made) = (Vec::new(), Vec::new());
    let mut ours = || -> Result<Sample> {
        let fresh = world.store(&format!("fresh-{}", ours_made.len()));
        ours_made.push(fresh.clone());
        with_downloads(world, &fresh, &kept)?;
        settle();
        let command = world.envd(&project, &fresh, &["--offline", "run", "--", "true"]);
        time_and_peak(&command)
    };
    let mut theirs = || -> Result<Sample> {
        let name = format!("debootstrapped-{}", theirs_made.len());
        let directory = world.directory.join(name);
        theirs_made.push(directory.clone());
        world.remove(&directory)?;
        settle();
        time_and_peak(&mmdebstrap(&cache, &directory))
    };
    let [ours, theirs] = interleaved(world.runs, [&mut ours, &mut theirs])?;
    used.extend(ours_made);
    used.extend(theirs_made);
    for directory in used {
        world.remove(&directory)?;
    }
    let (fast, slow) = (median(&ours), median(&theirs));
    let ratio = slow.as_secs_f64() / fast.as_secs_f64();
    let memory = peak(&ours);
    Ok(vec![
        Row {
            what: "realise G from downloaded archives to view".to_owned(),
            ours: seconds(fast),
            peer: format!(
                "{} (`mmdebstrap --variant=minbase`, .debs linked into its apt cache)",
                seconds(slow)
            ),
            target: "at least 5 × faster".to_owned(),
            met: ratio >= 5.0,
            distance: format!("{ratio:.1} ×"),
        },
        Row {
            what: "its peak memory (largest process)".to_owned(),
            ours: mebibytes(memory),
            peer: mebibytes(peak(&theirs)),
            target: "under 400 MB".to_owned(),
            met: memory < 400_000_000,
            distance: format!("{} MB", memory / 1_000_000),
        },
    ])
}

/// What one more package costs once G is there: resolving, fetching and realising, to `true` inside.
pub fn rows_of_adding(world: &World) -> Result<Vec<Row>> {
    let (g, store) = realised(world)?;
    let kept = keep_downloads(world, &g, &store)?;
    let fresh = world.store("fresh");
    with_downloads(world, &fresh, &kept)?;
    let full = time(&mut world.envd(&g, &fresh, &["--offline", "run", "--", "true"]))?.time;
    // Whoever adds a package has the indexes; a lock alone needs none.
    let warm = world.project("g-indexes", "debian:bookworm", &["hello"])?;
    let _ = fs::remove_file(warm.join("envd.lock"));
    succeed(&mut world.envd(&warm, &fresh, &["lock"]))?;
    let mut samples = Vec::new();
    // A package once realised is realised: each run adds another one to the same G.
    for (number, extra) in ["tree", "pv", "jq", "ncdu", "moreutils"]
        .iter()
        .enumerate()
        .take(world.runs)
    {
        let mut names = packages();
        names.push(extra);
        let project = world.project(&format!("g-and-{number}"), "debian:bookworm", &names)?;
        fs::copy(g.join("envd.lock"), project.join("envd.lock"))?;
        samples.push(time(&mut world.envd(
            &project,
            &store,
            &["run", "--", "true"],
        ))?);
        world.remove(&project)?;
    }
    world.remove(&fresh)?;
    let added = median(&samples);
    let ratio = added.as_secs_f64() / full.as_secs_f64();
    Ok(vec![Row {
        what: "the same with one package added to a realised G (resolve and download included)"
            .to_owned(),
        ours: seconds(added),
        peer: format!("{} (ours, in full)", seconds(full)),
        target: "under a quarter of the full time".to_owned(),
        met: ratio < 0.25,
        distance: format!("{ratio:.2} ×"),
    }])
}

/// An empty store that has these downloads.
fn with_downloads(world: &World, store: &Path, kept: &Path) -> Result<()> {
    world.remove(store)?;
    fs::create_dir_all(store.join("fetch"))?;
    for entry in fs::read_dir(kept)? {
        let entry = entry?;
        fs::hard_link(entry.path(), store.join("fetch").join(entry.file_name()))?;
    }
    Ok(())
}

/// Fills the apt cache with one run that is not measured.
fn prime(cache: &Path, directory: &Path, world: &World) -> Result<()> {
    if cache.join("complete").exists() {
        return Ok(());
    }
    eprintln!("xtask: filling mmdebstrap's cache");
    world.remove(directory)?;
    // What a run that failed left here would meet itself in the hook below.
    world.remove(cache)?;
    fs::create_dir_all(cache)?;
    let mut command = mmdebstrap(cache, directory);
    command.arg("--customize-hook").arg(format!(
        "cp --update \"$1\"/var/cache/apt/archives/*.deb '{}'",
        cache.display()
    ));
    succeed(&mut command)?;
    fs::write(cache.join("complete"), "")?;
    Ok(())
}

fn mmdebstrap(cache: &Path, directory: &Path) -> Command {
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--variant=minbase", "--skip=essential/unlink"])
        .arg(format!("--include={}", packages().join(",")))
        .arg("--setup-hook")
        .arg(format!(
            "mkdir -p \"$1\"/var/cache/apt/archives; for deb in '{0}'/*.deb; do test ! -e \"$deb\" || cp --link \"$deb\" \"$1\"/var/cache/apt/archives/ || cp \"$deb\" \"$1\"/var/cache/apt/archives/; done",
            cache.display()
        ))
        .arg("bookworm")
        .arg(directory)
        .arg("http://deb.debian.org/debian");
    command
}

/// Waits until what earlier runs wrote is on disk, so that nobody pays for another's writes.
fn settle() {
    nix::unistd::sync();
    std::thread::sleep(Duration::from_millis(200));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_found_in_tables_and_in_lines() {
        let digest = "0123456789abcdef".repeat(4);
        let other = "f".repeat(64);
        let lock = format!(
            "root = \"{other}\"\n[[package]]\nname = \"a\"\npath = \"pool/a_1_amd64.deb\"\nsha256 = \"{digest}\"\n\
             [[package]]\nname = \"b\"\nsha256 = \"{other}\"\npath = \"pool/b_1_all.deb\"\n"
        );
        assert_eq!(
            artifacts(&lock),
            [
                ("pool/a_1_amd64.deb".to_owned(), digest.clone()),
                ("pool/b_1_all.deb".to_owned(), other.clone())
            ]
        );
    }
}
