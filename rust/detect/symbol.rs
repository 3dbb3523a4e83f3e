// SPDX-License-Identifier: GPL-2.0

//! Functions: where they are, and which of a compiler's names for one may be taken for it.

/// Where a function's code is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: usize,
    pub(crate) size: usize,
}

impl Range {
    /// Of the function that `address` is in, which the kernel shows as `name+0x10/0x20` (`%pS`).
    /// `None` if that is no symbol.
    pub(crate) fn parse(address: usize, shown: &str) -> Option<Self> {
        let (_, place) = shown.split_whitespace().next()?.split_once('+')?;
        let (offset, size) = place.split_once('/')?;
        let number = |text: &str| usize::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        Some(Self {
            start: address.wrapping_sub(number(offset)?),
            size: number(size)?,
        })
    }

    /// Is that address in it?
    #[inline]
    pub(crate) fn has(&self, address: usize) -> bool {
        address.wrapping_sub(self.start) < self.size
    }
}

/// May `symbol` be taken for the function called `name`: is it that, or a copy that takes the same
/// arguments?
///
/// Link-time optimisation renames what was `static` and keeps its arguments: `.llvm.N` and `.__uniq.N`
/// (clang), `.lto_priv.N` (gcc). Of `.constprop.N`, `.isra.N` and `.part.N` (gcc) an argument may be gone,
/// or be another thing.
pub(crate) fn is_clone_of(symbol: &str, name: &str) -> bool {
    let Some(mut rest) = symbol.strip_prefix(name) else {
        return false;
    };
    while !rest.is_empty() {
        let suffix = [".llvm.", ".__uniq.", ".lto_priv."]
            .iter()
            .find_map(|suffix| rest.strip_prefix(suffix));
        let Some(number) = suffix else {
            return false;
        };
        rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() == number.len() {
            return false;
        }
    }
    true
}
