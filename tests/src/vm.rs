//! A machine of its own for what the tests' machine does not let one do: Debian's kernel for clouds under QEMU, with an initial
//! file system of the files that a test gives, of which `/init` is a script.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{requirement, sandbox::wait};

/// The Debian package that depends on the newest kernel.
const KERNEL: &str = "linux-image-cloud-amd64";
/// How long a machine may run. Emulated, it is ten times slower than this one.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(240);

/// A kernel, and the modules that a test may want.
#[derive(Debug)]
pub struct Kernel {
    image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// Debian's, from its archive by apt, kept in the user's cache. `None` where it cannot be had and tests may skip.
    pub fn debian() -> Option<Self> {
        let tools = ["qemu-system-x86_64", "apt-get", "dpkg-deb"];
        if !tools.into_iter().all(requirement::program) {
            return None;
        }
        let found = Self::fetch();
        if let Err(error) = &found {
            eprintln!("{KERNEL}: {error}");
        }
        requirement::met(KERNEL, found.is_ok());
        found.ok()
    }

    fn fetch() -> io::Result<Self> {
        let package = output(Command::new("apt-cache").args(["depends", KERNEL]))?;
        let package = package
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .ok_or_else(|| io::Error::other("apt does not know it"))?;
        let cache = match std::env::var_os("XDG_CACHE_HOME") {
            Some(cache) => PathBuf::from(cache),
            None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        };
        let kernel = cache.join("envd-tests").join(package);
        if !kernel.exists() {
            let fresh = cache.join(format!("envd-tests/fresh-{}", std::process::id()));
            fs::create_dir_all(&fresh)?;
            output(
                Command::new("apt-get")
                    .args(["download", package])
                    .current_dir(&fresh),
            )?;
            let file = only(&fresh, "deb")?;
            output(Command::new("dpkg-deb").arg("-x").args([&file, &fresh]))?;
            fs::remove_file(file)?;
            match fs::rename(&fresh, &kernel) {
                // Another test was quicker.
                Err(_) if kernel.exists() => fs::remove_dir_all(&fresh)?,
                renamed => renamed?,
            }
        }
        let entries = fs::read_dir(kernel.join("boot"))?.flatten();
        let image = entries.map(|entry| entry.path()).find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        });
        let modules = fs::read_dir(kernel.join("lib/modules"))?.flatten().next();
        match (image, modules) {
            (Some(image), Some(modules)) => Ok(Self {
                image,
                modules: modules.path().join("kernel"),
            }),
            _ => Err(io::Error::other("the package has no kernel")),
        }
    }

    /// A module's content, plain whatever the package has it packed with.
    pub fn module(&self, path: &str) -> Vec<u8> {
        let plain = self.modules.join(format!("{path}.ko"));
        if let Ok(content) = fs::read(&plain) {
            return content;
        }
        let packed = self.modules.join(format!("{path}.ko.xz"));
        let unpacked = Command::new("xz").arg("-dc").arg(packed).output();
        unpacked.expect("xz is there").stdout
    }

    /// Runs a machine to its end; all that it wrote to its console.
    pub fn run(&self, files: &InitialFiles, directory: &Path) -> String {
        let (initial, console) = (directory.join("initrd"), directory.join("console"));
        fs::write(&initial, files.archive()).expect("the directory is there");
        let mut machine = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "1"])
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-kernel")
            .arg(&self.image)
            .arg("-initrd")
            .arg(&initial)
            .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu is there");
        let ended = wait(&mut machine, PATIENCE);
        let _ = machine.kill();
        let _ = machine.wait();
        let told = fs::read(&console).unwrap_or_default();
        let told = String::from_utf8_lossy(&told).replace('\r', "");
        assert!(ended.is_some(), "the machine does not end:\n{told}");
        told
    }
}

fn only(directory: &Path, extension: &str) -> io::Result<PathBuf> {
    let mut paths = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.extension() == Some(OsStr::new(extension)))
        .ok_or_else(|| io::Error::other("nothing was downloaded"))
}

fn output(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{command:?}: {said}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The files that a machine begins with: a cpio archive of the format `newc` (Documentation/driver-api/early-userspace).
#[derive(Debug, Default)]
pub struct InitialFiles {
    bytes: Vec<u8>,
    count: u32,
}

impl InitialFiles {
    /// A directory. Those above it come first.
    pub fn directory(&mut self, path: &str) -> &mut Self {
        self.entry(path, 0o040_755, &[])
    }

    /// A program.
    pub fn program(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.entry(path, 0o100_755, content)
    }

    /// A file.
    pub fn file(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.entry(path, 0o100_644, content)
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, points_to: &str) -> &mut Self {
        self.entry(path, 0o120_777, points_to.as_bytes())
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> &mut Self {
        self.count += 1;
        let name = path.trim_start_matches('/');
        let numbers = [
            self.count,
            mode,
            0,
            0,
            1,
            0,
            u32::try_from(content.len()).expect("less than 4 GiB"),
            0,
            0,
            0,
            0,
            u32::try_from(name.len() + 1).expect("a short name"),
            0,
        ];
        self.bytes.extend(b"070701");
        for number in numbers {
            self.bytes.extend(format!("{number:08x}").bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        self
    }

    fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }

    fn archive(&self) -> Vec<u8> {
        let mut whole = Self {
            bytes: self.bytes.clone(),
            count: self.count,
        };
        whole.entry("TRAILER!!!", 0, &[]);
        whole.bytes
    }
}

/// A program without what only a debugger wants, so that it fits into a small machine.
pub fn stripped(program: &Path, directory: &Path) -> Vec<u8> {
    let bare = directory.join("stripped");
    let stripped = Command::new("strip")
        .arg("-o")
        .args([&bare, program])
        .status();
    let path = match stripped {
        Ok(status) if status.success() => &bare,
        _ => program,
    };
    fs::read(path).expect("the program is there")
}
