// SPDX-License-Identifier: GPL-2.0

//! `index.html` in a run's folder: its verdicts, what differs from the run before, the stories as timelines, the
//! windows, and the consoles. One file, which needs no other and no network. docs/results-page.md describes it.
//!
//! Reading and drawing are apart: `run` reads the folder, `story` a report, `before` compares with an older run,
//! `excerpt` chooses lines of a console; `draw` makes a page of that, and `timeline` its pictures.

mod before;
#[cfg(test)]
mod browser;
mod draw;
mod excerpt;
pub mod run;
#[cfg(test)]
mod samples;
mod story;
mod timeline;

use crate::decode;
use crate::env::Lab;
use anyhow::{bail, Context, Result};
use run::Run;
use std::fs;
use std::path::{Path, PathBuf};

/// At the end of every verb. A page that can't be made is said, and changes nothing about the run.
pub fn leave(lab: &Lab) {
    let Some(dir) = lab.this_run() else { return };
    // It shows what they have found.
    decode::finish();
    if let Err(err) = write(dir) {
        eprintln!("lab: no page of {}: {err:#}", dir.display());
    }
}

/// `lab page`: again, of a run that there is.
pub fn verb(dir: &Path) -> Result<bool> {
    let dir = dir
        .canonicalize()
        .with_context(|| format!("no run {}", dir.display()))?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    if run::verb(&name).is_none() {
        bail!(
            "{} is no run: their folders are called like 20201124-171419-repro",
            dir.display()
        );
    }
    println!("{}", write(&dir)?.display());
    Ok(true)
}

fn write(dir: &Path) -> Result<PathBuf> {
    let run = Run::read(dir)?;
    let before = before::find(&run);
    let before = before.map(|before| before::compare(&before, &run));
    let path = dir.join("index.html");
    let temp = dir.join("index.html.new");
    fs::write(&temp, draw::page(&run, before.as_ref()))?;
    fs::rename(&temp, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use samples::Folder;

    #[test]
    fn only_a_run_has_a_page() {
        let folder = Folder::new("none");
        let refused = verb(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("is no run: "), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(verb(&folder.path().join("nowhere"))
            .unwrap_err()
            .to_string()
            .starts_with("no run "));
        let folder = Folder::of_run("one");
        assert!(verb(folder.path()).unwrap());
        assert!(folder.path().join("index.html").is_file());
    }
}
