//! The table that goes into SPECIFICATION.md.

use std::time::Duration;

/// One promise and what was measured.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is measured.
    pub what: String,
    /// Ours.
    pub ours: String,
    /// The peer's, in the same run.
    pub peer: String,
    /// The promise.
    pub target: String,
    /// Whether it is kept.
    pub met: bool,
    /// How far off or ahead, in the target's own terms.
    pub distance: String,
}

/// Prints rows as Markdown.
pub fn print(rows: &[Row]) {
    println!("| what | envd | peer | target | measured | met |");
    println!("|---|---|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            row.what,
            row.ours,
            row.peer,
            row.target,
            row.distance,
            if row.met { "yes" } else { "**no**" }
        );
    }
}

/// A duration with three digits that matter.
pub fn seconds(time: Duration) -> String {
    let value = time.as_secs_f64();
    match value {
        v if v >= 10.0 => format!("{v:.1} s"),
        v if v >= 1.0 => format!("{v:.2} s"),
        v if v >= 0.1 => format!("{:.0} ms", v * 1e3),
        v if v >= 1e-3 => format!("{:.2} ms", v * 1e3),
        v => format!("{:.0} µs", v * 1e6),
    }
}

/// Bytes in MiB.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1 << 20))
}

/// A row whose promise is a time.
pub fn under(what: &str, ours: Duration, limit: Duration) -> Row {
    Row {
        what: what.to_owned(),
        ours: seconds(ours),
        peer: "–".to_owned(),
        target: format!("under {}", seconds(limit)),
        met: ours < limit,
        distance: format!(
            "{:.2} × the limit",
            ours.as_secs_f64() / limit.as_secs_f64()
        ),
    }
}
