// SPDX-License-Identifier: GPL-2.0

//! Lines of text, for the kernel log or for a file in debugfs, without an allocation.

use crate::bindings;
use core::{ffi::c_void, fmt};
use kernel::prelude::*;

/// Where lines go.
pub(crate) trait Sink {
    /// Writes one line.
    fn line(&mut self, line: &Line);
}

/// Bytes of a line, its NUL among them. A story in one line is the longest; `printk()` takes 1 KB.
const ROOM: usize = 640;

/// A line being made. What does not fit is cut off.
pub(crate) struct Line {
    bytes: [u8; ROOM],
    len: usize,
}

impl Line {
    /// An empty line.
    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; ROOM],
            len: 0,
        }
    }

    /// A line of `text`.
    pub(crate) fn of(text: fmt::Arguments<'_>) -> Self {
        let mut line = Self::new();
        line.put(text);
        line
    }

    /// Appends `text`.
    pub(crate) fn put(&mut self, text: fmt::Arguments<'_>) {
        // Cutting off is not an error.
        let _ = fmt::write(self, text);
    }

    /// Appends a pointer or what it stands for in one of `vsprintf()`'s extended forms: `%p`
    /// (hashed), `%pS`, `%ps` (symbol), `%pGp` (flags).
    ///
    /// # Safety
    ///
    /// `value` must be what that form takes: an address that is only printed, or, for `%pGp`, the
    /// address of an `unsigned long`. See Documentation/core-api/printk-formats.rst.
    pub(crate) unsafe fn put_pointer(&mut self, format: &CStr, value: *const c_void) {
        let room = &mut self.bytes[self.len..];
        // SAFETY: `room` is that large, and its last byte stays for the NUL. `format` takes one
        // pointer, by the safety requirements.
        let written = unsafe {
            bindings::scnprintf(
                room.as_mut_ptr().cast(),
                room.len(),
                format.as_char_ptr(),
                value,
            )
        };
        self.len += written as usize;
    }

    /// Writes the line, and empties it for the next one: a report is printed with one line's worth
    /// of stack, which in a panic may be scarce.
    pub(crate) fn end(&mut self, sink: &mut dyn Sink) {
        sink.line(self);
        self.clear();
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.bytes[0] = 0;
    }

    /// The line so far.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The line so far, as far as it is text. Not `Display`: that of the kernel's own macros is another
    /// trait since 6.18.
    pub(crate) fn text(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or("(not text)")
    }

    /// The line so far, as a C string.
    pub(crate) fn as_c(&self) -> *const kernel::ffi::c_char {
        // `write_str` and `scnprintf()` keep a NUL at `len`.
        self.bytes.as_ptr().cast()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.len;
        let fits = text.len().min(room);
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        self.bytes[self.len] = 0;
        Ok(())
    }
}

/// The kernel log, without a prefix, at the level of an error.
#[derive(Default)]
pub(crate) struct Console {
    refused: bool,
}

impl Console {
    /// Did the log take all lines? In a panic it takes none of the other CPUs, and says so by printing
    /// nothing (`vprintk_emit()`, kernel/printk/printk.c, 6.12).
    pub(crate) fn took_all(&self) -> bool {
        !self.refused
    }
}

impl Sink for Console {
    fn line(&mut self, line: &Line) {
        let format = kernel::c_str!("\x013%s\n").as_char_ptr();
        // SAFETY: The format takes one C string, which is one.
        let printed = unsafe { bindings::_printk(format, line.as_c()) };
        self.refused |= printed == 0 && !line.as_bytes().is_empty();
    }
}
