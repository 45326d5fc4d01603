use envd_store::*;
#[derive(Clone, Copy)]
struct Instant(std::time::Instant, u64, u64);
fn cpu() -> (u64, u64) {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<_> = s
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .map(String::from)
        .collect();
    (
        f[11].parse::<u64>().unwrap() * 10,
        f[12].parse::<u64>().unwrap() * 10,
    )
}
impl Instant {
    fn now() -> Self {
        let c = cpu();
        Self(std::time::Instant::now(), c.0, c.1)
    }
    fn elapsed(&self) -> String {
        let c = cpu();
        format!(
            "{:?} user {} sys {}",
            self.0.elapsed(),
            c.0 - self.1,
            c.1 - self.2
        )
    }
}
fn main() {
    let mut args = std::env::args().skip(1);
    let root = args.next().unwrap();
    let dir = args.next().unwrap();
    let t = Instant::now();
    let store = Store::open(root.as_ref()).unwrap();
    println!("open {:?}", t.elapsed());
    let t = Instant::now();
    let store2 = Store::open(root.as_ref()).unwrap();
    println!("open again {:?}", t.elapsed());
    drop(store2);
    let t = Instant::now();
    let session = store.session().unwrap();
    println!("session {:?}", t.elapsed());
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    let t = Instant::now();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let trees = std::sync::Mutex::new(Vec::new());
    let threads: usize = std::env::var("T").map_or(2, |t| t.parse().unwrap());
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                while let Some(f) =
                    files.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let mut mapper = |p: TreePath| {
                        let b = p.as_bytes();
                        for top in [&b"bin"[..], b"sbin", b"lib", b"lib64"] {
                            if b == top || b.starts_with(&[top, b"/"].concat()) {
                                return TreePath::new(&[b"usr/", b].concat()).ok();
                            }
                        }
                        Some(p)
                    };
                    let tree = ingest::tar(
                        &session,
                        std::fs::File::open(f).unwrap(),
                        &Default::default(),
                        &mut mapper,
                    )
                    .unwrap();
                    session.add_tree(&tree).unwrap();
                    trees
                        .lock()
                        .unwrap()
                        .push((f.file_name().unwrap().to_string_lossy().into_owned(), tree));
                }
            });
        }
    });
    println!("ingest {:?}", t.elapsed());
    let trees = trees.into_inner().unwrap();
    let parts: Vec<(String, &Tree)> = trees.iter().map(|(n, t)| (n.clone(), t)).collect();
    let t = Instant::now();
    let all = merge(&parts, &|_, _| false).unwrap();
    println!(
        "merge {} entries {} MB {:?}",
        all.len(),
        all.total_size() / 1000000,
        t.elapsed()
    );
    let t = Instant::now();
    let text = all.to_manifest();
    println!("to_manifest {} {:?}", text.len(), t.elapsed());
    let t = Instant::now();
    let id = all.id();
    println!("id {:?} {id}", t.elapsed());
    let t = Instant::now();
    let again = Tree::parse(&text).unwrap();
    println!("parse {:?}", t.elapsed());
    assert!(again == all);
    let t = Instant::now();
    session.add_tree(&all).unwrap();
    println!("add_tree {:?}", t.elapsed());
    let t = Instant::now();
    let p = session.view(&id).unwrap();
    println!("view {:?} {p:?}", t.elapsed());
    let t = Instant::now();
    let p = session.private_view(&all).unwrap();
    println!("private_view {:?} {p:?}", t.elapsed());
    let t = Instant::now();
    session
        .set_root(&Root {
            name: "r".into(),
            kind: RootKind::Project,
            path: None,
            lock: None,
            trees: vec![id],
            fetch: vec![],
            created: 1,
        })
        .unwrap();
    println!("root {:?}", t.elapsed());
    let t = Instant::now();
    session.sync().unwrap();
    println!("sync {:?}", t.elapsed());
    let t = Instant::now();
    drop(session);
    println!("drop {:?}", t.elapsed());
    let t = Instant::now();
    let h = store.hold(&id).unwrap();
    println!("hold {:?}", t.elapsed());
    drop(h);
    let t = Instant::now();
    let r = store
        .gc(GcOptions {
            dry_run: true,
            ..Default::default()
        })
        .unwrap();
    println!(
        "gc {:?} {} {} kept {}",
        t.elapsed(),
        r.objects,
        r.trees,
        r.kept_objects
    );
    let t = Instant::now();
    let v = store.verify(false).unwrap();
    println!("verify {:?} {:?} {}", t.elapsed(), v.problems, v.bytes);
    let t = Instant::now();
    println!("{:?} {:?}", store.usage().unwrap(), t.elapsed());
}
