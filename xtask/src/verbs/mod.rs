//! The verbs of `cargo xtask`, one file each.

pub(crate) mod accuracy;
pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod charts;
pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod dashboards;
pub(crate) mod demo;
pub(crate) mod dist;
pub(crate) mod docs;
pub(crate) mod fuzz;
pub(crate) mod image;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod soak;
pub(crate) mod test;
pub(crate) mod tidy;
pub(crate) mod vm;

/// `90`, `90s`, `10m`, `1h`: a duration on the command line.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let (number, factor) = match text.strip_suffix('s') {
        Some(seconds) => (seconds, 1),
        None => match text.strip_suffix('h') {
            Some(hours) => (hours, 3600),
            None => text.strip_suffix('m').map_or((text, 1), |minutes| (minutes, 60)),
        },
    };
    let whole: u64 = number.parse().map_err(|_| format!("`{text}` is no duration: try 20s or 2m"))?;
    Ok(std::time::Duration::from_secs(whole.saturating_mul(factor)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations() {
        let seconds = |text| super::duration(text).map(|d| d.as_secs());
        assert_eq!((seconds("90"), seconds("20s"), seconds("2m")), (Ok(90), Ok(20), Ok(120)));
        assert_eq!(seconds("1h"), Ok(3600));
        assert!(seconds("soon").is_err());
    }
}
