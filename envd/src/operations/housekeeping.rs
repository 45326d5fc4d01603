//! The store as a place: what is in it, what keeps it there, and how it gets empty.

use std::{io, path::Path};

use envd_store::{GcOptions, RootKind, RootUsage, Store};

use super::{Local, generations};
use crate::{
    cli::{Failure, Kind, gc as free, store as answer, uninstall as remove},
    daemon::{Place, client},
    lock::Lock,
    progress::Progress,
    provider::debian::archive,
    shims::Shims,
};

/// The store if there is one: looking makes none.
fn existing(local: &Local) -> Result<Option<Store>, Failure> {
    match std::fs::symlink_metadata(&local.settings.store) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => local.store().map(Some),
    }
}

/// `envd store info`.
pub(super) fn info(local: &Local) -> Result<answer::Info, Failure> {
    let store = local.store()?;
    let usage = store.usage()?;
    let space = rustix::fs::statvfs(store.path("")).map_err(|e| {
        Failure::of(Kind::Store, &io::Error::from(e)).help(format!(
            "the file system of {} cannot be asked",
            store.path("").display()
        ))
    })?;
    Ok(answer::Info {
        path: store.path(""),
        objects: usage.objects.count,
        trees: usage.trees.count,
        views: usage.views.count,
        roots: store.roots()?.len() as u64,
        bytes: usage.bytes(),
        free: space.f_bavail.saturating_mul(space.f_frsize),
    })
}

/// `envd store du`.
pub(super) fn usage(local: &Local) -> Result<answer::Usage, Failure> {
    let usage = local.store()?.usage()?;
    let parts = [
        ("objects", usage.objects),
        ("trees", usage.trees),
        ("views", usage.views),
        ("memos", usage.memos),
        ("downloads", usage.fetch),
        ("indexes", usage.indexes),
        ("tool caches", usage.caches),
        ("work in flight", usage.tmp),
    ];
    Ok(answer::Usage {
        parts: parts
            .map(|(name, kind)| answer::Part {
                name: name.to_owned(),
                bytes: kind.bytes,
            })
            .into(),
        total: usage.bytes(),
    })
}

/// `envd store roots`.
pub(super) fn roots(local: &Local) -> Result<Vec<answer::Root>, Failure> {
    let report = local.store()?.gc(GcOptions {
        dry_run: true,
        ..GcOptions::default()
    })?;
    Ok(report.roots.iter().map(root).collect())
}

fn root(usage: &RootUsage) -> answer::Root {
    let root = &usage.state.root;
    let name = match (&root.path, root.kind) {
        (Some(path), RootKind::Generation) => {
            let number = root.name.rsplit('-').next().unwrap_or_default();
            let number = number.trim_start_matches('0');
            format!("{}, generation {number}", path.display())
        }
        (Some(path), _) => path.display().to_string(),
        (None, RootKind::Tool) => format!("a tool run by envd x ({})", root.name),
        (None, _) => root.name.clone(),
    };
    answer::Root {
        name,
        reachable: !usage.state.unreachable,
        only: usage.only,
    }
}

/// `envd gc`. Downloads go whenever something goes: what came of them is in the store, and what no longer is can be fetched.
pub(super) fn gc(local: &Local, request: &free::Request) -> Result<free::Report, Failure> {
    let store = local.store()?;
    let forget = match request.generations {
        Some(keep) => generations::to_forget(&store.roots()?, keep),
        None => Vec::new(),
    };
    let options = GcOptions {
        dry_run: request.dry_run,
        fetch: true,
        caches: request.caches,
        forget: &forget,
    };
    if !request.dry_run {
        // Realising leaves this out, for it may take long; failing, on a full disk say, it is only put off again.
        if let Err(error) = store.sync() {
            tracing::info!("{error}");
        }
    }
    let report = store.gc(options)?;
    let mut bytes = report.object_bytes + report.fetch_bytes + report.cache_bytes;
    if !request.dry_run {
        bytes += archive::prune(&store.path("indexes"), local.now).map_err(|e| {
            Failure::of(Kind::Store, &e).help(format!(
                "{} could not be tidied",
                store.path("indexes").display()
            ))
        })?;
    }
    Ok(free::Report {
        objects: report.objects,
        trees: report.trees,
        bytes,
        kept: if request.dry_run {
            report.roots.iter().map(root).collect()
        } else {
            Vec::new()
        },
    })
}

/// `envd store verify`. What a repair removed is made again for every project whose lock is still where it was.
pub(super) fn verify(
    local: &Local,
    repair: bool,
    progress: &dyn Progress,
) -> Result<answer::Verified, Failure> {
    let store = local.store()?;
    let report = store.verify(repair)?;
    let mut damaged = Vec::new();
    let mut repaired = Vec::new();
    for problem in &report.problems {
        if problem.repaired {
            repaired.push(problem.to_string())
        } else {
            damaged.push(problem.to_string())
        }
    }
    if repair && !report.problems.is_empty() {
        for state in store.roots()? {
            // What a project was before is not made again; whoever goes back to it is told.
            let present = state.root.kind == RootKind::Project && !state.unreachable;
            let Some(path) = state.root.path.filter(|_| present) else {
                continue;
            };
            if let Err(failure) = again(local, &path, progress) {
                damaged.push(format!(
                    "{} could not be realised again: {}",
                    path.display(),
                    failure.message
                ));
            }
        }
    }
    Ok(answer::Verified {
        checked: report.objects + report.trees,
        damaged,
        repaired,
    })
}

/// Realises a project's lock again.
fn again(local: &Local, project: &Path, progress: &dyn Progress) -> Result<(), Failure> {
    let lock = Lock::load(&project.join(crate::project::LOCK_NAME))?;
    let session = local.session()?;
    super::realising::realise_lock(local, &session, &lock, progress)?;
    Ok(())
}

/// All that envd has made for this user: shims in projects that the store knows, and the store. Other files of projects are the projects'.
pub(super) fn leftovers(local: &Local) -> Result<Vec<remove::Leftover>, Failure> {
    let uid = rustix::process::getuid().as_raw();
    let daemons = client::of_store(&local.settings, uid).into_iter();
    let mut left: Vec<_> = daemons
        .map(|(path, _)| remove::Leftover {
            path,
            what: "a project's daemon".to_owned(),
            bytes: 0,
        })
        .collect();
    if let Some(store) = existing(local)? {
        left.extend(shimmed(&store).into_iter().map(|shims| remove::Leftover {
            path: shims.home(),
            what: "shims of a project".to_owned(),
            bytes: envd_trampoline::SHIM.len() as u64,
        }));
        left.push(remove::Leftover {
            path: store.path(""),
            what: "the store".to_owned(),
            bytes: store.usage()?.bytes(),
        });
    }
    Ok(left)
}

/// The shims of projects that are kept. A store whose roots cannot be read is no reason not to remove it.
fn shimmed(store: &Store) -> Vec<Shims> {
    let roots = store.roots().unwrap_or_default().into_iter();
    roots
        .filter(|state| state.root.kind == RootKind::Project)
        .filter_map(|state| Some(Shims::of(&state.root.path?)))
        .filter(Shims::installed)
        .collect()
}

/// `envd uninstall`.
pub(super) fn uninstall(local: &Local) -> Result<(), Failure> {
    let uid = rustix::process::getuid().as_raw();
    for (_, daemon) in client::of_store(&local.settings, uid) {
        daemon.stop(false)?;
    }
    // Others' daemons may be in it.
    let _ = std::fs::remove_dir(Place::runtime(&local.settings, uid));
    let Some(store) = existing(local)? else {
        return Ok(());
    };
    let shims = shimmed(&store);
    local.store.replace(None);
    let report = store.remove_all()?;
    // Only now: as long as something runs, nothing is removed at all.
    for shims in shims {
        shims.remove()?;
    }
    match &report.foreign[..] {
        [] => Ok(()),
        foreign => {
            let list: Vec<String> = foreign
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Err(Failure::new(
                Kind::Store,
                format!("envd did not make, and so left: {}", list.join(", ")),
            )
            .help("look at them and remove them yourself"))
        }
    }
}
