//! Counts primes with a sieve, and says where it runs.

fn primes_below(limit: usize) -> usize {
    let mut composite = vec![false; limit.max(2)];
    let mut count = 0;
    for number in 2..limit {
        if composite[number] {
            continue;
        }
        count += 1;
        for multiple in (number * number..limit).step_by(number) {
            composite[multiple] = true;
        }
    }
    count
}

fn main() -> std::io::Result<()> {
    let release = std::fs::read_to_string("/etc/os-release")?;
    let version = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_ID="))
        .unwrap_or("?");
    println!("inside Debian {}", version.trim_matches('"'));
    println!("primes below 100000: {}", primes_below(100_000));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::primes_below;

    #[test]
    fn small_limits() {
        assert_eq!(primes_below(2), 0);
        assert_eq!(primes_below(10), 4);
    }
}
