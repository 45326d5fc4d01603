//! The daemon with environments that are made of nothing but a pipe.

use std::{
    fs,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::task::LocalSet;

use super::*;
use crate::{
    cli::{Kind, operations},
    config::{Manifest, Source as Text},
    daemon::{Place, Source, client::Client, maker::Maker, message::Request, recipe::Wish},
    settings::Settings,
};

/// Environments that are made, and that are there.
#[derive(Clone, Default)]
struct Counts {
    made: Arc<AtomicUsize>,
    alive: Arc<AtomicUsize>,
}

impl Counts {
    fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }
}

/// An environment that has ended when the other end of its pipe is closed.
struct Pipe {
    end: OwnedFd,
    _life: Option<OwnedFd>,
    alive: Arc<AtomicUsize>,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Environment for Pipe {
    fn pid(&self) -> u32 {
        0
    }

    fn pidfd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    fn has_ended(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut polled = [PollFd::new(&self.end, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())) != Ok(0)
    }

    fn downgrades(&self) -> Vec<String> {
        Vec::new()
    }

    fn execute(
        &self,
        _: &[u8],
        _: [BorrowedFd<'_>; 3],
        _: BorrowedFd<'_>,
        _: &[BorrowedFd<'_>],
    ) -> Result<(), LaunchError> {
        Ok(())
    }

    fn hand_namespaces(&self, _: u64, _: BorrowedFd<'_>) -> Result<(), LaunchError> {
        Ok(())
    }
}

#[derive(Default)]
struct Pipes {
    counts: Counts,
    /// The next ones are dead when they are looked at.
    dead: Rc<Cell<bool>>,
}

impl Maker for Pipes {
    fn make(&self, _: &Blueprint) -> Result<Box<dyn Environment>, LaunchError> {
        self.counts.made.fetch_add(1, Ordering::Relaxed);
        self.counts.alive.fetch_add(1, Ordering::Relaxed);
        let (end, life) = rustix::pipe::pipe().expect("descriptors");
        Ok(Box::new(Pipe {
            end,
            _life: (!self.dead.get()).then_some(life),
            alive: self.counts.alive.clone(),
        }))
    }
}

/// A realised project, or one that is not.
struct Project {
    view: PathBuf,
    realised: Rc<Cell<bool>>,
}

impl Source for Project {
    fn ready(&self) -> Result<Option<(Ready, Manifest)>, Failure> {
        let text = Text {
            path: "envd.toml".into(),
            text: "[env]".into(),
        };
        let ready = Ready {
            environment: operations::Environment {
                view: self.view.clone(),
                caches: self.view.join("caches"),
            },
            hold: None,
        };
        let realised = self.realised.get();
        Ok(realised.then_some((ready, Manifest::parse(text)?)))
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    daemon: Rc<Daemon>,
    counts: Counts,
    dead: Rc<Cell<bool>>,
    realised: Rc<Cell<bool>>,
    variables: HostVariables,
}

impl Fixture {
    fn new(idle: Duration) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = fs::canonicalize(directory.path()).expect("it is there");
        fs::create_dir_all(root.join("view/usr/bin")).expect("writable");
        fs::create_dir_all(root.join("project")).expect("writable");
        let variables: HostVariables = [
            ("HOME", Path::new("/home/ada")),
            ("ENVD_STORE", &root.join("store")),
            ("XDG_RUNTIME_DIR", &root),
        ]
        .into_iter()
        .collect();
        let (counts, dead) = (Counts::default(), Rc::new(Cell::new(false)));
        let realised = Rc::new(Cell::new(true));
        let source = Project {
            view: root.join("view"),
            realised: realised.clone(),
        };
        let project = root.join("project");
        let place = place(&variables, &project);
        let daemon = Daemon::new(
            Identity {
                version: "0".to_owned(),
                build: crate::daemon::place::build(),
                pid: 1,
                uid: rustix::process::getuid().as_raw(),
                project: project.display().to_string(),
                store: String::new(),
            },
            Recipes::new(&project, Box::new(source)),
            Household::new(place.services(&root.join("store")), &project),
            Lending::new(|| Err(Failure::new(Kind::Other, "nothing is lent here"))),
            variables.clone(),
            Box::new(Pipes {
                counts: counts.clone(),
                dead: dead.clone(),
            }),
            idle,
        );
        Self {
            directory,
            daemon,
            counts,
            dead,
            realised,
            variables,
        }
    }

    fn place(&self) -> Place {
        let root = fs::canonicalize(self.directory.path()).expect("it is there");
        place(&self.variables, &root.join("project"))
    }

    fn recipe(&self) -> Option<Rc<Recipe>> {
        let wish = Wish::of(0, &self.variables);
        self.daemon
            .recipes
            .get(&wish, &self.variables)
            .expect("a sound project")
    }

    fn touch(&self, name: &str) {
        fs::write(self.directory.path().join("project").join(name), name).expect("writable");
    }
}

fn place(variables: &HostVariables, project: &Path) -> Place {
    let uid = rustix::process::getuid().as_raw();
    let settings = Settings::load(variables, uid).expect("sound variables");
    Place::of(&settings, uid, project)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

/// Lets everything happen that is about to.
async fn settle(fixture: &Fixture, recipe: &Rc<Recipe>) {
    fixture.daemon.refill(recipe);
    while recipe.spares.borrow().len() < SPARES {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_command_takes_what_waits_and_another_one_is_made_ready() {
    run(async {
        let fixture = Fixture::new(Duration::from_secs(60));
        let recipe = fixture.recipe().expect("realised");
        settle(&fixture, &recipe).await;
        assert_eq!(fixture.counts.made(), SPARES);
        let tenancy = fixture.daemon.lend(&recipe, Use::Run).expect("one waits");
        assert_eq!(fixture.counts.made(), SPARES, "none was made for it");
        settle(&fixture, &recipe).await;
        assert_eq!(fixture.counts.alive(), SPARES + 1);
        drop(tenancy);
        assert_eq!(fixture.counts.alive(), SPARES);
    });
}

/// New commands get the new root; what runs keeps its own.
#[test]
fn a_changed_file_drops_what_waits_and_not_what_runs() {
    run(async {
        let fixture = Fixture::new(Duration::from_secs(60));
        let old = fixture.recipe().expect("realised");
        settle(&fixture, &old).await;
        let tenancy = fixture.daemon.lend(&old, Use::Run).expect("one waits");
        fixture.touch("envd.lock");
        let new = fixture.recipe().expect("realised");
        assert!(!Rc::ptr_eq(&old, &new));
        assert_eq!(fixture.counts.alive(), 1, "the one that is used");
        assert!(tenancy.with(|_| ()).is_some());
        // One that was on its way is not kept either.
        fixture.daemon.refill(&old);
        settle(&fixture, &new).await;
        assert!(old.spares.borrow().is_empty());
        fixture.realised.set(false);
        fixture.touch("envd.toml");
        assert!(fixture.recipe().is_none());
        assert_eq!(fixture.counts.alive(), 1);
    });
}

#[test]
fn callers_who_differ_in_what_decides_do_not_share() {
    run(async {
        let fixture = Fixture::new(Duration::from_secs(60));
        let get = |inside, home: &str| {
            let variables: HostVariables = [("HOME", home), ("TERM", home)].into_iter().collect();
            let wish = Wish::of(inside, &variables);
            let recipe = fixture.daemon.recipes.get(&wish, &variables);
            recipe.expect("sound").expect("realised")
        };
        let first = get(0, "/home/ada");
        assert!(Rc::ptr_eq(&first, &get(0, "/home/ada")));
        assert!(!Rc::ptr_eq(&first, &get(2, "/home/ada")));
        assert!(!Rc::ptr_eq(&first, &get(0, "/home/bob")));
        let other: HostVariables = [("HOME", "/home/ada"), ("SECRET", "x")]
            .into_iter()
            .collect();
        let wish = Wish::of(0, &other);
        assert_eq!(wish, Wish::of(0x4000_0000, &other));
        // Made-up variables do not fill the memory.
        for number in 0..100 {
            let recipe = get(0, &format!("/home/{number}"));
            fixture.daemon.refill(&recipe);
            settle(&fixture, &recipe).await;
        }
        assert!(fixture.counts.alive() <= 8 * SPARES);
    });
}

#[test]
fn one_that_died_while_it_waited_is_not_lent() {
    run(async {
        let fixture = Fixture::new(Duration::from_secs(60));
        let recipe = fixture.recipe().expect("realised");
        fixture.dead.set(true);
        settle(&fixture, &recipe).await;
        fixture.dead.set(false);
        let _tenancy = fixture.daemon.lend(&recipe, Use::Run).expect("a new one");
        assert_eq!(
            (fixture.counts.made(), fixture.counts.alive()),
            (SPARES + 1, 1)
        );
    });
}

#[test]
fn it_ends_when_nobody_has_used_it_for_long_enough_and_drops_everything() {
    run(async {
        let fixture = Fixture::new(Duration::from_millis(1));
        let recipe = fixture.recipe().expect("realised");
        settle(&fixture, &recipe).await;
        let place = fixture.place();
        place.make().expect("a place");
        let listener = crate::daemon::packet::listen(&place.socket()).expect("free");
        let never = std::future::pending();
        fixture.daemon.serve(listener, never).await.expect("served");
        assert_eq!(fixture.counts.alive(), 0);
    });
}

/// A client of its own process: the blocking half on another thread, as it is in another process.
#[test]
fn whoever_asks_it_to_stop_hears_that_it_has_and_nothing_is_left() {
    run(async {
        let fixture = Fixture::new(Duration::from_secs(60));
        let place = fixture.place();
        place.make().expect("a place");
        let listener = crate::daemon::packet::listen(&place.socket()).expect("free");
        let there = place.clone();
        let client = std::thread::spawn(move || {
            let connect = || Client::connect(&there).expect("ours").expect("it listens");
            let client = connect();
            client.ask(Request::Warm).expect("it is warm");
            let opened = client
                .ask(Request::Open { inside: 0 })
                .expect("one is opened");
            assert!(opened["handle"].is_u64());
            let status = client.status().expect("it answers");
            let uses = |wanted: Use| {
                let environments = status.environments.iter();
                environments.filter(|one| one.r#use == wanted).count()
            };
            assert_eq!((status.clients, uses(Use::Open)), (1, 1));
            let other = connect();
            assert!(
                other.ask(Request::Stop { if_idle: true }).is_err(),
                "it is busy"
            );
            other
                .ask(Request::Stop { if_idle: false })
                .expect("it stops");
        });
        let never = std::future::pending();
        fixture.daemon.serve(listener, never).await.expect("served");
        client.join().expect("all was as it should");
        assert_eq!(fixture.counts.alive(), 0);
    });
}
