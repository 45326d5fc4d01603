//! Serves an archive whose package `many-files` has as many distinct files as the argument says, for the benchmark of gc.
//! Prints the variables that lead envd to it, one a line, then an empty line; serves until standard input closes.

use std::io::Read;

use envd_tests::{
    archive::Archive,
    deb::{Compression, Deb},
    programs,
    server::Server,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = std::env::args().nth(1).ok_or("how many files?")?.parse()?;
    let mut archive = Archive::new();
    let many = (0..count).fold(
        Deb::new("many-files", "1.0").compression(Compression::Zst),
        |deb, number| {
            let path = format!("usr/share/many/{:03}/{number}", number % 500);
            deb.file(&path, format!("content number {number}\n"))
        },
    );
    archive
        .trixie()
        .add(programs::base_files())
        .add(programs::shell().ok_or("busybox-static is missing")?)
        .add(many);
    let directory = tempfile::tempdir()?;
    let keyring = directory.path().join("archive.gpg");
    std::fs::write(&keyring, archive.key().keyring())?;
    let server = Server::start(archive.files());
    let url = server.url();
    println!("ENVD_DEBIAN_MIRROR={url}/debian");
    println!("ENVD_DEBIAN_SECURITY_MIRROR={url}/debian-security");
    println!("ENVD_SNAPSHOT_MIRROR={url}");
    println!("ENVD_DEBIAN_KEYRING={}\n", keyring.display());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
