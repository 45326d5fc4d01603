//! What a test stands on.

use std::{path::PathBuf, sync::Arc};

use tempfile::TempDir;

use crate::fake::Fake;

/// A project with one file, and where the fake keeps its copies.
pub struct Ground {
    directory: TempDir,
    pub fake: Arc<Fake>,
}

impl Ground {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (project, scratch) = (
            directory.path().join("project"),
            directory.path().join("scratch"),
        );
        std::fs::create_dir(&project).expect("it is ours");
        std::fs::create_dir(&scratch).expect("it is ours");
        std::fs::write(project.join("README"), "a project\n").expect("it is ours");
        let fake = Fake::new(&project, &scratch);
        Self { directory, fake }
    }

    pub fn project(&self) -> PathBuf {
        self.directory.path().join("project")
    }

    pub fn scratch(&self) -> PathBuf {
        self.directory.path().join("scratch")
    }

    /// Nothing is left of what was lent.
    pub fn assert_empty(&self) {
        assert_eq!(
            self.fake.left(),
            (0, 0, 0),
            "environments, commands, snapshots"
        );
        let files = std::fs::read_dir(self.scratch())
            .expect("it is there")
            .count();
        assert_eq!(files, 0, "files in the scratch directory");
    }
}

/// Waits for something that must come about, and for no longer than anybody would.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}
