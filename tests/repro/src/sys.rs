// SPDX-License-Identifier: GPL-2.0

//! The system calls that `std` has no name for. All `unsafe` of this program is here.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

pub const PAGE: usize = 4096;
pub const HUGE_PAGE: usize = 512 * PAGE;

/// `<linux/mempolicy.h>`: move pages that are there already.
const MPOL_MF_MOVE: libc::c_int = 1 << 1;

fn check(ret: libc::c_int) -> io::Result<()> {
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Runs the calling thread on `cpu` and nowhere else.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: `cpu_set_t` is plain bits, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `set` is initialised; `CPU_SET` checks the index against its size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` outlives the call, and its true size is passed.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) })
}

fn set_policy(policy: libc::c_int, sched_priority: libc::c_int) -> io::Result<()> {
    let param = libc::sched_param { sched_priority };
    // SAFETY: `param` outlives the call.
    check(unsafe { libc::sched_setscheduler(0, policy, &param) })
}

/// Makes the calling thread run before all ordinary ones of its CPU, and before those of a
/// lower `priority`.
pub fn realtime(priority: i32) -> io::Result<()> {
    set_policy(libc::SCHED_FIFO, priority)
}

/// Makes the calling thread an ordinary one again.
pub fn ordinary() -> io::Result<()> {
    set_policy(libc::SCHED_OTHER, 0)
}

/// Makes the calling thread run only if its CPU has nothing else to do.
pub fn idle_priority() -> io::Result<()> {
    set_policy(libc::SCHED_IDLE, 0)
}

/// The calling thread's number, as in /proc/self/task.
pub fn thread_id() -> i32 {
    // SAFETY: Takes nothing and can't fail.
    unsafe { libc::gettid() }
}

fn statfs(path: &Path) -> io::Result<libc::statfs> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut buf = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` is NUL-terminated, and `buf` has room for what is written.
    check(unsafe { libc::statfs(path.as_ptr(), buf.as_mut_ptr()) })?;
    // SAFETY: The call succeeded and has filled `buf`.
    Ok(unsafe { buf.assume_init() })
}

/// The type of the file system that holds `path`, as in `<linux/magic.h>`.
pub fn fs_magic(path: &Path) -> io::Result<u64> {
    Ok(statfs(path)?.f_type as u64)
}

/// Its blocks' size in bytes.
pub fn fs_block_size(path: &Path) -> io::Result<u64> {
    Ok(statfs(path)?.f_bsize as u64)
}

/// Bytes that can still be allocated on the file system of `file`.
pub fn fs_available(file: &File) -> io::Result<u64> {
    let mut buf = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `buf` has room for what is written.
    check(unsafe { libc::fstatfs(file.as_raw_fd(), buf.as_mut_ptr()) })?;
    // SAFETY: The call succeeded and has filled `buf`.
    let buf = unsafe { buf.assume_init() };
    Ok(buf.f_bavail * buf.f_bsize as u64)
}

/// Drops the cached pages of the whole file that are clean and unused. On the way, it
/// drains the batch of pages that this CPU has yet to put on the LRU lists; with an empty
/// `file` that is all it does.
pub fn drop_cached(file: &File) -> io::Result<()> {
    // SAFETY: Takes no pointers.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        // Unlike other calls, this one returns its error.
        e => Err(io::Error::from_raw_os_error(e)),
    }
}

/// Tells the kernel that reads will be random: no page is read that was not asked for.
pub fn advise_random(file: &File) -> io::Result<()> {
    // SAFETY: Takes no pointers.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) } {
        0 => Ok(()),
        e => Err(io::Error::from_raw_os_error(e)),
    }
}

/// Starts to read `len` bytes from `offset` into the page cache.
pub fn read_ahead(file: &File, offset: u64, len: usize) -> io::Result<()> {
    // SAFETY: Takes no pointers.
    check(unsafe { libc::readahead(file.as_raw_fd(), offset as i64, len) } as libc::c_int)
}

/// Starts writeback of `len` bytes from `offset` and does not wait for its end.
pub fn start_writeback(file: &File, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: Takes no pointers.
    check(unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset as i64,
            len as i64,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    })
}

/// Waits for the end of writeback that is going on, in `len` bytes from `offset`. Starts none, locks
/// no page.
pub fn wait_for_writeback(file: &File, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: Takes no pointers.
    check(unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset as i64,
            len as i64,
            libc::SYNC_FILE_RANGE_WAIT_BEFORE,
        )
    })
}

/// Allocates `len` bytes from `offset` without writing them.
pub fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: Takes no pointers.
    check(unsafe { libc::fallocate(file.as_raw_fd(), 0, offset as i64, len as i64) })
}

/// Punches a hole; the file keeps its size.
pub fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: Takes no pointers.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, len as i64) })
}

/// Inserts a kernel module.
pub fn load_module(image: &[u8], parameters: &str) -> io::Result<()> {
    let parameters = CString::new(parameters)?;
    // SAFETY: The kernel reads `image.len()` bytes and a NUL-terminated string. What the module
    // does is the caller's business, as for any program that root runs.
    check(unsafe {
        libc::syscall(
            libc::SYS_init_module,
            image.as_ptr(),
            image.len(),
            parameters.as_ptr(),
        )
    } as libc::c_int)
}

/// A mapping that is unmapped when dropped.
///
/// # Invariants
///
/// `ptr` is the start of a mapping of `len` bytes that belongs to this value alone. It is
/// readable, and writable if `writable`.
pub struct Mapping {
    ptr: NonNull<libc::c_void>,
    len: usize,
    writable: bool,
}

impl Mapping {
    fn new(
        len: usize,
        prot: libc::c_int,
        flags: libc::c_int,
        fd: i32,
        offset: u64,
    ) -> io::Result<Self> {
        // SAFETY: A null hint makes the kernel choose a free range, so nothing that exists is
        // mapped over.
        let ptr = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, fd, offset as i64) };
        if ptr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ptr = NonNull::new(ptr).ok_or_else(|| io::Error::other("mapped at 0"))?;
        // INVARIANT: Fresh from the kernel, and `ptr` is nowhere else.
        let writable = prot & libc::PROT_WRITE != 0;
        Ok(Self { ptr, len, writable })
    }

    /// Maps one page of a file, for reading.
    pub fn of_page(file: &File, index: u64) -> io::Result<Self> {
        let offset = index * PAGE as u64;
        Self::new(
            PAGE,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            offset,
        )
    }

    /// Maps the first `len` bytes of a file, for writing.
    pub fn of_file(file: &File, len: usize) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        Self::new(len, prot, libc::MAP_SHARED, file.as_raw_fd(), 0)
    }

    /// Anonymous memory.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::new(len, prot, flags, -1, 0)
    }

    pub fn addr(&self) -> usize {
        self.ptr.as_ptr() as usize
    }

    fn advise(&self, offset: usize, len: usize, advice: libc::c_int) -> io::Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: The range lies in the mapping (checked above), which is ours, and the advices
        // given here change no byte that Rust has a reference to.
        check(unsafe { libc::madvise(self.ptr.as_ptr().byte_add(offset), len, advice) })
    }

    /// Is page `index` of a mapped file in the page cache and up to date? Touches nothing.
    pub fn cached(&self, index: usize) -> io::Result<bool> {
        if index * PAGE >= self.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut byte = 0u8;
        // SAFETY: The page lies in the mapping (checked above), and for one page one byte is
        // written.
        check(unsafe { libc::mincore(self.ptr.as_ptr().byte_add(index * PAGE), PAGE, &mut byte) })?;
        Ok(byte & 1 != 0)
    }

    /// Writes `byte` all over.
    pub fn fill(&self, byte: u8) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // SAFETY: By the invariant the range is writable and ours. Nobody has a reference to it.
        unsafe { self.ptr.cast::<u8>().write_bytes(byte, self.len) };
        Ok(())
    }

    /// Faults pages in for reading. Past the end of a file this is an error and not a `SIGBUS`.
    pub fn populate_read(&self, offset: usize, len: usize) -> io::Result<()> {
        self.advise(offset, len, libc::MADV_POPULATE_READ)
    }

    /// Faults pages in for writing, which makes those of a file dirty.
    pub fn populate_write(&self, offset: usize, len: usize) -> io::Result<()> {
        self.advise(offset, len, libc::MADV_POPULATE_WRITE)
    }

    /// Makes huge pages of what is there now.
    pub fn collapse(&self, offset: usize, len: usize) -> io::Result<()> {
        self.advise(offset, len, libc::MADV_COLLAPSE)
    }

    /// Reclaims pages at once.
    pub fn page_out(&self, offset: usize, len: usize) -> io::Result<()> {
        self.advise(offset, len, libc::MADV_PAGEOUT)
    }

    /// Unmaps pages; anonymous ones are gone.
    pub fn give_back(&self, offset: usize, len: usize) -> io::Result<()> {
        self.advise(offset, len, libc::MADV_DONTNEED)
    }

    /// Small pages only, until [`Mapping::allow_huge`].
    pub fn forbid_huge(&self) -> io::Result<()> {
        self.advise(0, self.len, libc::MADV_NOHUGEPAGE)
    }

    pub fn allow_huge(&self) -> io::Result<()> {
        self.advise(0, self.len, libc::MADV_HUGEPAGE)
    }

    /// Moves those pages that are there to a node, as move_pages(2) does.
    pub fn move_pages(&self, offset: usize, len: usize, node: u32) -> io::Result<()> {
        let pages: Vec<usize> = (offset..offset + len)
            .step_by(PAGE)
            .map(|offset| self.addr() + offset)
            .collect();
        let nodes = vec![node as libc::c_int; pages.len()];
        let mut status: Vec<libc::c_int> = vec![0; pages.len()];
        // SAFETY: Three arrays of that many elements; of the addresses only numbers are made.
        // Migration does not change what the pages hold.
        check(unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                0,
                pages.len(),
                pages.as_ptr(),
                nodes.as_ptr(),
                status.as_mut_ptr(),
                MPOL_MF_MOVE,
            )
        } as libc::c_int)
    }

    /// Prefers a node for these pages and moves those that are there, as mbind(2) does.
    pub fn bind(&self, offset: usize, len: usize, node: u32) -> io::Result<()> {
        let mask: libc::c_ulong = 1 << node;
        // SAFETY: `mask` outlives the call and has the bits that are announced (and one more,
        // which the kernel takes off). A policy on a range, mapped or not, changes no byte.
        check(unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.addr() + offset,
                len,
                libc::MPOL_PREFERRED,
                &mask,
                libc::c_ulong::BITS + 1,
                MPOL_MF_MOVE,
            )
        } as libc::c_int)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the invariant, the range is a mapping of ours, and nobody can use it after
        // this value is gone.
        unsafe { libc::munmap(self.ptr.as_ptr(), self.len) };
    }
}
