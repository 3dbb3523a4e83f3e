// SPDX-License-Identifier: GPL-2.0

//! Where things are: the environment that scripts/lab.sh sets, and a guest script's needs.

use crate::live::Tally;
use anyhow::{bail, Context, Result};
use chrono::Utc;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock};

#[derive(Debug)]
pub struct Lab {
    pub root: PathBuf,
    pub cache: PathBuf,
    pub vng: PathBuf,
    /// Of qemu-system-x86_64.
    pub qemu_version: String,
    tally: Mutex<Tally>,
    /// The folder of this run, once there is one.
    run: OnceLock<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Kernel {
    pub key: String,
    pub image: PathBuf,
    pub dir: PathBuf,
    /// A distribution's, as it was installed: it has its modules and brings no symbols.
    pub installed: bool,
}

impl Kernel {
    /// "fixed-7cdd5253782c": what it is called in the cache.
    pub fn build(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// `prefix` with a kernel's key, as a shell can spell it.
fn keyed(prefix: &str, key: &str) -> Option<PathBuf> {
    [key.to_string(), key.replace(['-', ':', '.'], "_")]
        .iter()
        .find_map(|key| env::var_os(format!("{prefix}_{key}")))
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn required(name: &str) -> Result<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .with_context(|| format!("{name} is not set: start the lab through scripts/lab.sh"))
}

impl Lab {
    pub fn from_env() -> Result<Self> {
        let qemu_version = qemu_version()?;
        let cache = required("WAKEWATCH_CACHE")?;
        fs::create_dir_all(&cache).with_context(|| format!("can't make {}", cache.display()))?;
        Ok(Self {
            root: required("WW_ROOT")?.canonicalize()?,
            cache: cache.canonicalize()?,
            vng: required("WW_VNG")?,
            qemu_version,
            tally: Mutex::default(),
            run: OnceLock::new(),
        })
    }

    /// What came by itself in this run.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(|err| err.into_inner())
    }

    pub fn this_run(&self) -> Option<&Path> {
        self.run.get().map(PathBuf::as_path)
    }

    pub fn kernel(&self, key: &str) -> Result<Kernel> {
        let dir = keyed("WW_KERNEL", key)
            .with_context(|| format!("no kernel `{key}`: WW_KERNEL_{key} is not set"))?;
        let image = dir.join("bzImage");
        if !image.is_file() {
            bail!("kernel `{key}`: {} does not exist", image.display());
        }
        // Of an installed one there is a link: virtme-ng finds its modules by where it really is.
        let installed = image.is_symlink();
        let image = match installed {
            true => image.canonicalize()?,
            false => image,
        };
        Ok(Kernel {
            key: key.to_string(),
            image,
            dir,
            installed,
        })
    }

    /// Any kernel at hand, for the probe of KVM.
    pub fn any_kernel(&self) -> Option<Kernel> {
        env::vars_os()
            .filter_map(|(name, _)| {
                let key = name.to_str()?.strip_prefix("WW_KERNEL_")?.to_string();
                self.kernel(&key).ok()
            })
            .next()
    }

    pub fn module(&self, key: &str) -> Option<PathBuf> {
        keyed("WW_MODULE", key)
    }

    pub fn guest_script(&self, name: &str) -> PathBuf {
        self.root.join("tests/guest").join(format!("{name}.sh"))
    }

    /// A new folder for this run, and `results` in the clone pointing at it.
    pub fn run_dir(&self, verb: &str) -> Result<PathBuf> {
        let runs = self.cache.join("runs");
        let stamp = format!("{}-{verb}", now());
        // Two runs in one second are two runs.
        let mut dir = runs.join(&stamp);
        let mut n = 1;
        fs::create_dir_all(&runs)?;
        while let Err(err) = fs::create_dir(&dir) {
            if err.kind() != std::io::ErrorKind::AlreadyExists {
                return Err(err).with_context(|| format!("can't make {}", dir.display()));
            }
            n += 1;
            dir = runs.join(format!("{stamp}.{n}"));
        }
        let link = self.root.join("results");
        let temp = self.root.join(format!(".results.{}", std::process::id()));
        let linked =
            std::os::unix::fs::symlink(&dir, &temp).and_then(|()| fs::rename(&temp, &link));
        if let Err(err) = linked {
            // A clone that can't be written to is no reason not to run.
            let _ = fs::remove_file(&temp);
            eprintln!("lab: no link {}: {err}", link.display());
        }
        // A verb has one, and of a second one the first is the run's.
        let _ = self.run.set(dir.clone());
        Ok(dir)
    }
}

fn qemu_version() -> Result<String> {
    let out = Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()
        .context("qemu-system-x86_64 does not run")?;
    parse_qemu_version(&String::from_utf8_lossy(&out.stdout))
        .context("qemu-system-x86_64 --version says nothing that looks like a version")
}

fn parse_qemu_version(text: &str) -> Option<String> {
    let version = text.lines().next()?.split(" version ").nth(1)?;
    let version = version.split(' ').next()?;
    let number = version.split('.').next()?;
    number.parse::<u32>().ok().map(|_| version.to_string())
}

/// As the names of runs begin: UTC as 20201119-184500.
pub fn now() -> String {
    Utc::now().format("%Y%m%d-%H%M%S").to_string()
}

/// What a guest script declares at its top, in the manner of ktest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub kernel: Option<String>,
    pub memory: Option<String>,
    pub timeout: Option<u64>,
    pub append: Vec<String>,
    /// Parts of kernel findings that the script provokes, and checks for itself.
    pub expect: Vec<String>,
    /// The live read race is lost on purpose: its findings are the script's.
    pub provokes_reads: bool,
}

impl Needs {
    pub fn of(script: &Path) -> Result<Self> {
        let text = fs::read_to_string(script)
            .with_context(|| format!("no guest script {}", script.display()))?;
        Self::parse(&text).with_context(|| script.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut needs = Self::default();
        let top = text
            .lines()
            .take_while(|line| line.starts_with('#') || line.trim().is_empty());
        for line in top {
            let Some((name, value)) = line.trim_start_matches('#').split_once(':') else {
                continue;
            };
            let value = value.trim();
            match name.trim() {
                "kernel" => needs.kernel = value.split_whitespace().next().map(str::to_string),
                "memory" => {
                    memory_bytes(value)?;
                    needs.memory = Some(value.to_string());
                }
                "timeout" => {
                    let secs = value.split_whitespace().next().unwrap_or_default();
                    let secs = secs.parse().with_context(|| format!("timeout: {value}"))?;
                    needs.timeout = Some(secs);
                }
                "append" => needs
                    .append
                    .extend(value.split_whitespace().map(str::to_string)),
                "provokes" if value == "the live read race" => needs.provokes_reads = true,
                "provokes" => bail!("provokes: {value}: there is `the live read race`"),
                "expect" => needs.expect.push(value.to_string()),
                _ => {}
            }
        }
        Ok(needs)
    }

    /// Needs of several scripts in one boot: the largest memory, the sum of the times.
    pub fn join(all: &[Self]) -> Self {
        let mut sum = Self::default();
        for needs in all {
            sum.kernel = sum.kernel.or(needs.kernel.clone());
            let bytes = |memory: &Option<String>| {
                memory
                    .as_deref()
                    .and_then(|m| memory_bytes(m).ok())
                    .unwrap_or(0)
            };
            if bytes(&needs.memory) > bytes(&sum.memory) {
                sum.memory = needs.memory.clone();
            }
            let secs = needs.timeout.unwrap_or(DEFAULT_TIMEOUT);
            sum.timeout = Some(sum.timeout.unwrap_or(0) + secs);
            for word in &needs.append {
                if !sum.append.contains(word) {
                    sum.append.push(word.clone());
                }
            }
            sum.expect.extend(needs.expect.iter().cloned());
            sum.provokes_reads |= needs.provokes_reads;
        }
        sum
    }
}

/// Bytes of memory that this machine could give away now; 0 if it doesn't say.
pub fn available_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

/// Seconds for a script that does not say.
pub const DEFAULT_TIMEOUT: u64 = 120;

/// "2G", "512M", "900": megabytes without a letter, as virtme-ng has it.
pub fn memory_bytes(text: &str) -> Result<u64> {
    let (digits, shift) = match text.trim().strip_suffix(['G', 'g']) {
        Some(n) => (n, 30),
        None => (
            text.trim().strip_suffix(['M', 'm']).unwrap_or(text.trim()),
            20,
        ),
    };
    match digits.parse::<u64>() {
        Ok(n) if n > 0 => Ok(n << shift),
        _ => bail!("`{text}` is no amount of memory; 512M and 2G are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_versions() {
        let version = parse_qemu_version("QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg)\n");
        assert_eq!(version.as_deref(), Some("7.2.19"));
        assert!(parse_qemu_version("nonsense").is_none());
    }

    #[test]
    fn needs() {
        let text = "#!/bin/bash\n# SPDX-License-Identifier: GPL-2.0\n#\n# Text: more.\n# kernel: broken\n# memory: 2G\n# timeout: 60 (seconds)\n# append: oops=panic quiet\n# expect: WARN: (x)\n\nplan 1\n# memory: 9G\n";
        let needs = Needs::parse(text).unwrap();
        assert_eq!(needs.kernel.as_deref(), Some("broken"));
        assert_eq!(needs.memory.as_deref(), Some("2G"));
        assert_eq!(needs.timeout, Some(60));
        assert_eq!(needs.append, ["oops=panic", "quiet"]);
        assert_eq!(needs.expect, ["WARN: (x)"]);
        assert!(Needs::parse("# memory: lots\n").is_err());
        assert!(Needs::parse("# timeout: soon\n").is_err());
        assert!(
            Needs::parse("# provokes: the live read race\n")
                .unwrap()
                .provokes_reads
        );
        assert!(Needs::parse("# provokes: anything\n").is_err());
        let small = Needs::parse("# memory: 512M\n").unwrap();
        let both = Needs::join(&[small, needs]);
        assert_eq!(both.memory.as_deref(), Some("2G"));
        assert_eq!(both.timeout, Some(60 + DEFAULT_TIMEOUT));
    }

    #[test]
    fn memory() {
        assert_eq!(memory_bytes("2G").unwrap(), 2 << 30);
        assert_eq!(memory_bytes("512").unwrap(), 512 << 20);
        assert!(memory_bytes("G").is_err());
        assert!(memory_bytes("0M").is_err());
    }
}
