// SPDX-License-Identifier: GPL-2.0

//! Stack traces with files and lines, as scripts/decode_stacktrace.sh of the kernel makes them. That one
//! starts nm for each symbol, which takes 20 s of a CPU for the log of one guest; here it is one.

use crate::console::Line;
use crate::env::Kernel;
use addr2line::Loader;
use anyhow::{anyhow, Context, Result};
use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;

static DECODERS: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

fn decoders() -> MutexGuard<'static, Vec<JoinHandle<()>>> {
    DECODERS.lock().unwrap_or_else(|err| err.into_inner())
}

/// Begins to decode `lines` into the file `out`.
pub fn start(kernel: &Kernel, lines: &[Line], out: PathBuf) {
    let dir = kernel.dir.clone();
    let text: String = lines
        .iter()
        .flat_map(|line| [line.text.as_str(), "\n"])
        .collect();
    decoders().push(std::thread::spawn(move || {
        let decoded = decode(&dir, &text).and_then(|text| Ok(fs::write(&out, text)?));
        if let Err(err) = decoded {
            eprintln!("lab: no {}: {err:#}", out.display());
        }
    }));
}

/// Waits for what was begun.
pub fn finish() {
    for decoder in decoders().drain(..) {
        // A decoder that panicked has said so.
        let _ = decoder.join();
    }
}

fn decode(kernel: &Path, text: &str) -> Result<String> {
    let map = kernel.join("System.map");
    let map = fs::read_to_string(&map).with_context(|| map.display().to_string())?;
    let symbols = Symbols::parse(&map);
    let vmlinux = kernel.join("vmlinux");
    let loader = Loader::new(&vmlinux).map_err(|err| anyhow!("{}: {err}", vmlinux.display()))?;
    let mut lines = SourceLines {
        loader: &loader,
        root: String::new(),
        known: HashMap::new(),
    };
    lines.find_root(&symbols);
    let mut out = String::with_capacity(text.len() * 2);
    for line in text.lines() {
        decode_line(line, &symbols, &mut |address| lines.of(address), &mut out);
        out.push('\n');
    }
    Ok(out)
}

/// Copies the line, with what `lines` has for an address behind each `symbol+0x1/0x2`.
fn decode_line(
    line: &str,
    symbols: &Symbols,
    lines: &mut dyn FnMut(u64) -> Option<String>,
    out: &mut String,
) {
    let mut rest = line;
    while let Some(plus) = rest.find("+0x") {
        let (before, after) = rest.split_at(plus);
        let symbol = before
            .rsplit(|c: char| !(c.is_ascii_alphanumeric() || "_.$".contains(c)))
            .next()
            .unwrap_or_default();
        let (offset, tail) = hex(&after[3..]);
        let (size, tail) = match tail.strip_prefix("/0x") {
            Some(tail) => hex(tail),
            None => (None, tail),
        };
        out.push_str(&rest[..rest.len() - tail.len()]);
        rest = tail;
        let (Some(offset), Some(size)) = (offset, size) else {
            continue;
        };
        // Of a module; its symbols are not the kernel's.
        if tail.starts_with(" [") {
            continue;
        }
        // A return address is behind its call. Where the CPU itself was, it is not one.
        let back = u64::from(offset > 0 && !before.contains("RIP:"));
        let address = symbols
            .address(symbol, size)
            .map(|start| start + offset - back);
        if let Some(place) = address.and_then(&mut *lines) {
            let _ = write!(out, " ({place})");
        }
    }
    out.push_str(rest);
}

/// Hexadecimal digits at the beginning of `text`, and what follows.
fn hex(text: &str) -> (Option<u64>, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(text.len());
    (u64::from_str_radix(&text[..end], 16).ok(), &text[end..])
}

/// Functions, of System.map.
struct Symbols<'a> {
    /// Address, and the address of the next one: kallsyms has a size only by that.
    by_name: HashMap<&'a str, Vec<(u64, u64)>>,
}

impl<'a> Symbols<'a> {
    fn parse(map: &'a str) -> Self {
        let mut all: Vec<(u64, &str)> = map
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let address = u64::from_str_radix(words.next()?, 16).ok()?;
                let kind = words.next()?;
                let text = matches!(kind, "t" | "T" | "w" | "W");
                text.then_some((address, words.next()?))
            })
            .collect();
        all.sort_unstable_by_key(|(address, _)| *address);
        let mut by_name: HashMap<&str, Vec<(u64, u64)>> = HashMap::new();
        let mut next = u64::MAX;
        let mut last = u64::MAX;
        for (address, name) in all.into_iter().rev() {
            // Several names for one function have the same size.
            if address != last {
                next = std::mem::replace(&mut last, address);
            }
            by_name.entry(name).or_default().push((address, next));
        }
        Self { by_name }
    }

    /// Of several functions of that name the one of that size.
    fn address(&self, name: &str, size: u64) -> Option<u64> {
        let all = self.by_name.get(name)?;
        match all.as_slice() {
            [(address, _)] => Some(*address),
            all => all
                .iter()
                .find(|(address, next)| next - address == size)
                .map(|(address, _)| *address),
        }
    }
}

struct SourceLines<'a> {
    loader: &'a Loader,
    /// The tree's folder, which is left out.
    root: String,
    known: HashMap<u64, Option<String>>,
}

impl SourceLines<'_> {
    /// As decode_stacktrace.sh does it: by a function whose file is known.
    fn find_root(&mut self, symbols: &Symbols) {
        let first = symbols
            .by_name
            .get("kernel_init")
            .and_then(|all| all.first());
        if let Some(place) = first.and_then(|(address, _)| self.look_up(*address)) {
            let path = place.split(' ').next_back().unwrap_or_default();
            let root = path.split_once("init/main.c").map(|(root, _)| root);
            self.root = root.unwrap_or_default().to_string();
        }
    }

    /// `file:line` of an address, and of those it was inlined into.
    fn of(&mut self, address: u64) -> Option<String> {
        if let Some(known) = self.known.get(&address) {
            return known.clone();
        }
        let found = self.look_up(address);
        self.known.insert(address, found.clone());
        found
    }

    fn look_up(&self, address: u64) -> Option<String> {
        let mut frames = self.loader.find_frames(address).ok()?;
        let mut places = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            if let Some(at) = frame.location {
                let file = at.file.unwrap_or("?");
                let file = file.strip_prefix(&self.root).unwrap_or(file);
                let file = file.strip_prefix("./").unwrap_or(file);
                places.push(format!("{file}:{}", at.line.unwrap_or(0)));
            }
        }
        (!places.is_empty()).then(|| places.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "ffffffff81000000 T _stext\n\
                       ffffffff81000100 t twice\n\
                       ffffffff81000120 T folio_wake_bit\n\
                       ffffffff81000200 t twice\n\
                       ffffffff81000240 t end.cold\n\
                       ffffffff81000250 d twice\n";

    fn decoded(line: &str) -> String {
        let mut out = String::new();
        let mut lines = |address: u64| Some(format!("{:x}", address & 0xfff));
        decode_line(line, &Symbols::parse(MAP), &mut lines, &mut out);
        out
    }

    #[test]
    fn addresses_are_those_of_the_call() {
        assert_eq!(
            decoded("[ 1.0]  folio_wake_bit+0x5/0xe0"),
            "[ 1.0]  folio_wake_bit+0x5/0xe0 (124)"
        );
        // Where the CPU was.
        assert_eq!(
            decoded("RIP: 0010:folio_wake_bit+0xc0/0xe0"),
            "RIP: 0010:folio_wake_bit+0xc0/0xe0 (1e0)"
        );
        assert_eq!(
            decoded("by folio_wake_bit+0x5/0xe0, then end.cold+0x0/0x10"),
            "by folio_wake_bit+0x5/0xe0 (124), then end.cold+0x0/0x10 (240)"
        );
    }

    #[test]
    fn of_several_functions_it_is_that_of_the_size() {
        assert_eq!(decoded("? twice+0x8/0x20"), "? twice+0x8/0x20 (107)");
        assert_eq!(decoded("twice+0x8/0x40"), "twice+0x8/0x40 (207)");
        assert_eq!(decoded("twice+0x8/0x30"), "twice+0x8/0x30");
    }

    #[test]
    fn what_is_no_function_of_the_kernels_is_left() {
        for line in [
            "nothing",
            "f+0x1/0x2 [wakewatch]",
            "unknown+0x1/0x2",
            "twice+0x8",
            "a+0xzz/0x1 +0x",
            "folio_wake_bit+0x5/0xe0 [wakewatch]",
        ] {
            assert_eq!(decoded(line), line);
        }
    }
}
