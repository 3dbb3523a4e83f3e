// SPDX-License-Identifier: GPL-2.0

//! One run: where its guests boot, what is kept of what was measured before, and so many rows at a time.

use super::row::Row;
use crate::env::Lab;
use crate::guest::{self, Boot, Guest};
use crate::kvm::Accel;
use anyhow::{anyhow, Context, Result};
use serde::{de::DeserializeOwned, Serialize};
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Mutex;

/// One run of `lab matrix`.
pub struct Lane<'a> {
    pub lab: &'a Lab,
    pub run_dir: PathBuf,
    pub accel: Accel,
    /// Measure again what was measured before.
    pub fresh: bool,
}

impl Lane<'_> {
    pub fn boot(&self, accel: Accel, boot: &Boot) -> Result<Guest> {
        let guest = guest::run(self.lab, accel, &self.run_dir, boot)?;
        println!("  {}: {}", boot.name, guest.result.why);
        Ok(guest)
    }

    /// What was measured before with the same kernel, QEMU, scripts and `goes_in`, or what `measure` says
    /// now, which is kept if it is `whole`: half of a result is none.
    pub fn kept<T: Serialize + DeserializeOwned>(
        &self,
        what: &str,
        key: &str,
        goes_in: &[String],
        scripts: &[&str],
        whole: impl Fn(&T) -> bool,
        measure: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let mut hash = DefaultHasher::new();
        self.lab.kernel(key)?.dir.hash(&mut hash);
        (&self.lab.qemu_version, goes_in).hash(&mut hash);
        for script in scripts {
            let path = self.lab.guest_script(script);
            fs::read(&path)
                .with_context(|| path.display().to_string())?
                .hash(&mut hash);
        }
        let file = format!("{what}-{key}-{:016x}.json", hash.finish());
        let cached = self.lab.cache.join("matrix").join(file);
        if let (false, Ok(text)) = (self.fresh, fs::read_to_string(&cached)) {
            println!("{key}: {what} measured before, {}", cached.display());
            return serde_json::from_str(&text)
                .with_context(|| format!("{} (remove it)", cached.display()));
        }
        let result = measure()?;
        if whole(&result) {
            fs::create_dir_all(cached.parent().context("no folder")?)?;
            let temp = cached.with_extension("new");
            fs::write(&temp, serde_json::to_string_pretty(&result)?)?;
            fs::rename(&temp, &cached)?;
        }
        Ok(result)
    }
}

/// The reproducer and the module: what `goes_in` wherever a race is run.
pub fn programs(lab: &Lab, key: &str) -> Result<Vec<String>> {
    let repro = std::env::var("WW_REPRO").context("WW_REPRO is not set")?;
    let mut hash = DefaultHasher::new();
    fs::read(&repro)
        .with_context(|| repro.clone())?
        .hash(&mut hash);
    Ok(vec![
        format!("{:016x}", hash.finish()),
        format!("{:?}", lab.module(key)),
    ])
}

/// Runs `work` on all of `rows`, on so many at a time. The first error is the whole's.
pub fn each(
    rows: &mut [Row],
    workers: usize,
    work: impl Fn(&mut Row) -> Result<()> + Sync,
) -> Result<()> {
    let queue = Mutex::new(rows.iter_mut());
    let next = || queue.lock().ok().and_then(|mut rows| rows.next());
    std::thread::scope(|scope| {
        let run = || -> Result<()> {
            while let Some(row) = next() {
                work(row)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}
