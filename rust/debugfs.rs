// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/wakewatch/`: one type per file below, and how files are made at the end.
//!
//! C header: include/linux/debugfs.h; fs/debugfs/{inode,file}.c (6.12). debugfs keeps a file from
//! being removed under its users, and its `owner` keeps the module from being unloaded while one
//! is open.

use crate::{
    bindings,
    control::Control,
    detect::{amplify::Spec, config::Config},
    text::{Line, Sink},
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{c_str, error::code, prelude::*, sync::Arc, ThisModule};

/// A file. Its functions run in task context and may sleep.
trait File {
    const NAME: &'static CStr;
    /// 0400, 0600 if it can be written, 0200 if there is nothing to read.
    const MODE: u16;

    /// Writes the contents to `sink`.
    fn show(control: &Control, sink: &mut dyn Sink);

    /// Takes what was written. An error leaves everything as it was and is explained in the
    /// kernel log.
    fn write(_control: &Control, _text: &str) -> Result {
        Err(code::EPERM)
    }
}

/// `stats`: `name: value` lines, all counters.
struct Stats;

impl File for Stats {
    const NAME: &'static CStr = c_str!("stats");
    const MODE: u16 = 0o400;

    fn show(control: &Control, sink: &mut dyn Sink) {
        control.show_stats(sink);
    }
}

/// `reports`: the last reports, oldest first.
struct Reports;

impl File for Reports {
    const NAME: &'static CStr = c_str!("reports");
    const MODE: u16 = 0o400;

    fn show(control: &Control, sink: &mut dyn Sink) {
        control.shared.reporter.read(sink);
    }
}

/// `enable`: `1` while detection is on, `0` while it is off.
struct Enable;

impl File for Enable {
    const NAME: &'static CStr = c_str!("enable");
    const MODE: u16 = 0o600;

    fn show(control: &Control, sink: &mut dyn Sink) {
        sink.line(&Line::of(format_args!(
            "{}",
            u32::from(control.detecting())
        )));
    }

    fn write(control: &Control, text: &str) -> Result {
        match text.trim() {
            "0" => control.detect(false),
            "1" => control.detect(true),
            other => {
                pr_err!("enable: write 0 or 1, not `{}'\n", other);
                Err(code::EINVAL)
            }
        }
    }
}

/// `amplify`: the delay that is asked for, or `off`.
struct Amplify;

impl File for Amplify {
    const NAME: &'static CStr = c_str!("amplify");
    const MODE: u16 = 0o600;

    fn show(control: &Control, sink: &mut dyn Sink) {
        sink.line(&match control.amplify() {
            Some(spec) => Line::of(format_args!("{spec}")),
            None => Line::of(format_args!("off")),
        });
    }

    fn write(control: &Control, text: &str) -> Result {
        let spec = Spec::parse(text).map_err(|err| {
            pr_err!("amplify: {}\n", Line::of(format_args!("{err}")).text());
            code::EINVAL
        })?;
        control.set_amplify(spec)
    }
}

/// `callers`: a line for each call site, with the spare references seen there.
struct Callers;

impl File for Callers {
    const NAME: &'static CStr = c_str!("callers");
    const MODE: u16 = 0o400;

    fn show(control: &Control, sink: &mut dyn Sink) {
        control.shared.callers.show(sink);
    }
}

/// `windows`: how long windows were, and what is in the table.
struct Windows;

impl File for Windows {
    const NAME: &'static CStr = c_str!("windows");
    const MODE: u16 = 0o400;

    fn show(control: &Control, sink: &mut dyn Sink) {
        control.show_windows(sink);
    }
}

/// `config`: the knobs, `name=value`.
struct Knobs;

impl File for Knobs {
    const NAME: &'static CStr = c_str!("config");
    const MODE: u16 = 0o600;

    fn show(control: &Control, sink: &mut dyn Sink) {
        let config = control.config();
        for name in Config::NAMES {
            sink.line(&Line::of(format_args!("{name}={}", config.value(name))));
        }
    }

    fn write(control: &Control, text: &str) -> Result {
        control.configure(|config| {
            config.with(text).map_err(|err| {
                pr_err!("config: {}\n", Line::of(format_args!("{err}")).text());
                code::EINVAL
            })
        })
    }
}

/// `reset`: `1` forgets counters, reports, call sites and windows.
struct Reset;

impl File for Reset {
    const NAME: &'static CStr = c_str!("reset");
    const MODE: u16 = 0o200;

    fn show(_control: &Control, _sink: &mut dyn Sink) {}

    fn write(control: &Control, text: &str) -> Result {
        if text.trim() != "1" {
            pr_err!("reset: write 1, not `{}'\n", text.trim());
            return Err(code::EINVAL);
        }
        control.reset();
        Ok(())
    }
}

/// The directory. Dropping it removes the files; none of their functions runs afterwards.
///
/// # Invariants
///
/// `dir` was made by `debugfs_create_dir()`. The files in it point at `control` and at the `fops`.
pub(crate) struct Directory {
    dir: NonNull<bindings::dentry>,
    _fops: [KBox<bindings::file_operations>; 8],
    _control: Arc<Control>,
}

// SAFETY: A dentry belongs to no thread; the rest is `Send`.
unsafe impl Send for Directory {}
// SAFETY: There are no methods on `&self`.
unsafe impl Sync for Directory {}

impl Directory {
    /// Makes the directory and its files.
    pub(crate) fn new(control: Arc<Control>, module: &'static ThisModule) -> Result<Self> {
        let fops = [
            fops::<Stats>(module)?,
            fops::<Reports>(module)?,
            fops::<Enable>(module)?,
            fops::<Amplify>(module)?,
            fops::<Callers>(module)?,
            fops::<Windows>(module)?,
            fops::<Knobs>(module)?,
            fops::<Reset>(module)?,
        ];
        // SAFETY: The name is a C string; no parent is debugfs' root.
        let dir = unsafe {
            bindings::debugfs_create_dir(c_str!("wakewatch").as_char_ptr(), core::ptr::null_mut())
        };
        let dir = kernel::error::from_err_ptr(dir).inspect_err(|err| {
            pr_err!(
                "cannot make wakewatch in debugfs: error {} (is CONFIG_DEBUG_FS on, and not debugfs=off?)\n",
                err.to_errno()
            );
        })?;
        // INVARIANT: Just made, and `from_err_ptr` lets no null pass that debugfs returns.
        let this = Self {
            dir: NonNull::new(dir).ok_or(code::ENOMEM)?,
            _fops: fops,
            _control: control,
        };
        this.file::<Stats>(0)?;
        this.file::<Reports>(1)?;
        this.file::<Enable>(2)?;
        this.file::<Amplify>(3)?;
        this.file::<Callers>(4)?;
        this.file::<Windows>(5)?;
        this.file::<Knobs>(6)?;
        this.file::<Reset>(7)?;
        Ok(this)
    }

    fn file<F: File>(&self, fops: usize) -> Result {
        let control: *const Control = &*self._control;
        let fops: *const bindings::file_operations = &*self._fops[fops];
        // SAFETY: Control and fops live as long as the file, by the type invariants of `self`.
        let file = unsafe {
            bindings::ww_debugfs_create_file(
                F::NAME.as_char_ptr(),
                F::MODE,
                self.dir.as_ptr(),
                control.cast_mut().cast(),
                fops,
            )
        };
        kernel::error::from_err_ptr(file).map(|_| ())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. Waits for the files' users.
        unsafe { bindings::debugfs_remove(self.dir.as_ptr()) };
    }
}

fn fops<F: File>(module: &'static ThisModule) -> Result<KBox<bindings::file_operations>> {
    let fops = bindings::file_operations {
        owner: module.as_ptr(),
        open: Some(Callbacks::<F>::open),
        read: Some(bindings::seq_read),
        write: Some(Callbacks::<F>::write),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        // SAFETY: All-zero is what a C initialiser leaves in the other fields.
        ..unsafe { core::mem::zeroed() }
    };
    Ok(KBox::new(fops, GFP_KERNEL)?)
}

/// The C side of a file.
struct Callbacks<F: File>(PhantomData<F>);

impl<F: File> Callbacks<F> {
    /// # Safety
    ///
    /// Called by debugfs only, for a file of a [`Directory`].
    unsafe extern "C" fn open(
        inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> kernel::ffi::c_int {
        // SAFETY: debugfs passes what `debugfs_create_file` was given in `i_private`.
        unsafe { bindings::single_open(file, Some(Self::show), (*inode).i_private) }
    }

    /// # Safety
    ///
    /// Called by seq_file only, for a file that [`Self::open`] has opened.
    unsafe extern "C" fn show(
        seq: *mut bindings::seq_file,
        _: *mut kernel::ffi::c_void,
    ) -> kernel::ffi::c_int {
        // SAFETY: `private` is the `Control` that `open` has passed; see `Directory`.
        let control = unsafe { &*(*seq).private.cast::<Control>() };
        F::show(control, &mut Seq(seq));
        0
    }

    /// # Safety
    ///
    /// Called by the kernel only, for a file that [`Self::open`] has opened.
    unsafe extern "C" fn write(
        file: *mut bindings::file,
        from: *const kernel::ffi::c_char,
        len: usize,
        pos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: `open` has left a seq_file in `private_data`, and the `Control` in that.
        let control = unsafe {
            let seq: *mut bindings::seq_file = (*file).private_data.cast();
            &*(*seq).private.cast::<Control>()
        };
        let mut buffer = [0u8; 256];
        if len >= buffer.len() {
            pr_err!("{} bytes are too many: write one line\n", len);
            return code::EINVAL.to_errno() as isize;
        }
        // Whatever the file's position, a write is a whole line.
        let mut start = 0;
        // SAFETY: `buffer` has room for `len` bytes, `from` is the user's.
        let copied = unsafe {
            bindings::simple_write_to_buffer(
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &mut start,
                from.cast(),
                len,
            )
        };
        if copied < 0 {
            return copied;
        }
        if copied as usize != len {
            return code::EFAULT.to_errno() as isize;
        }
        let written = match core::str::from_utf8(&buffer[..len]) {
            Ok(text) => F::write(control, text),
            Err(_) => {
                pr_err!("what was written is not text\n");
                Err(code::EINVAL)
            }
        };
        match written {
            Ok(()) => {
                // SAFETY: The kernel's pointer to the file's position.
                unsafe { *pos += copied as bindings::loff_t };
                copied
            }
            Err(err) => err.to_errno() as isize,
        }
    }
}

/// A file being read.
struct Seq(*mut bindings::seq_file);

impl Sink for Seq {
    fn line(&mut self, line: &Line) {
        // SAFETY: The seq_file is being shown; the format takes one C string, which is one.
        unsafe { bindings::seq_printf(self.0, c_str!("%s\n").as_char_ptr(), line.as_c()) };
    }
}
