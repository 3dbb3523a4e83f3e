// SPDX-License-Identifier: GPL-2.0

//! The system calls that `std` has no name for. All `unsafe` of this program is here.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
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

// SAFETY: By the invariant the mapping is this value's alone, and which thread uses or unmaps it makes no
// difference.
unsafe impl Send for Mapping {}

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

    /// The same, for reading.
    pub fn of_file_to_read(file: &File, len: usize) -> io::Result<Self> {
        let prot = libc::PROT_READ;
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

    /// No page is read that was not asked for.
    pub fn random(&self) -> io::Result<()> {
        self.advise(0, self.len, libc::MADV_RANDOM)
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

/// Makes the calling thread, and no other, somebody else's for good: user and group `id`, and nothing
/// that root may do.
pub fn become_user(id: u32) -> io::Result<()> {
    // libc's functions of these names change all threads of the process.
    // SAFETY: Takes no pointer but a null one, for no groups.
    check(
        unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) } as libc::c_int,
    )?;
    // SAFETY: Takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, id, id, id) } as libc::c_int)?;
    // SAFETY: Takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, id, id, id) } as libc::c_int)
}

fn set_effective_user(id: u32) -> io::Result<()> {
    // SAFETY: Takes no pointers; -1 is for what stays.
    check(unsafe { libc::syscall(libc::SYS_setresuid, -1, id, -1) } as libc::c_int)
}

/// Does `what` with no more rights than user `id` has, and is root again.
pub fn as_user<T>(id: u32, what: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    set_effective_user(id)?;
    let done = what();
    set_effective_user(0)?;
    done
}

/// Does a directory have an entry of this name? Errors but `ENOENT` are errors.
pub fn has_entry(dir: &File, name: &CStr) -> io::Result<bool> {
    let mut buf = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `name` is NUL-terminated, and `buf` has room for what is written.
    let ret = unsafe {
        libc::fstatat(
            dir.as_raw_fd(),
            name.as_ptr(),
            buf.as_mut_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    match check(ret) {
        Ok(()) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes an empty directory.
pub fn remove_dir(parent: &File, name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is NUL-terminated.
    check(unsafe { libc::unlinkat(parent.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) })
}

/// Reads entries of a directory, `.` and `..` among them: how many bytes of them.
pub fn read_entries(dir: &File, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buf` has room for `buf.len()` bytes.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            dir.as_raw_fd(),
            buf.as_mut_ptr(),
            buf.len(),
        )
    };
    check(ret as libc::c_int)?;
    Ok(ret as usize)
}

/// Reads a symbolic link in a directory.
pub fn read_link(dir: &File, name: &CStr, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `name` is NUL-terminated, and `buf` has room for `buf.len()` bytes.
    let ret = unsafe {
        libc::readlinkat(
            dir.as_raw_fd(),
            name.as_ptr(),
            buf.as_mut_ptr().cast(),
            buf.len(),
        )
    };
    check(ret as libc::c_int)?;
    Ok(ret as usize)
}

/// Inodes of the file system of `file` that are in use.
pub fn fs_inodes(file: &File) -> io::Result<u64> {
    let mut buf = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `buf` has room for what is written.
    check(unsafe { libc::fstatfs(file.as_raw_fd(), buf.as_mut_ptr()) })?;
    // SAFETY: The call succeeded and has filled `buf`.
    let buf = unsafe { buf.assume_init() };
    Ok(buf.f_files - buf.f_ffree)
}

/// `struct file_dedupe_range` of `<linux/fs.h>` with one destination.
#[repr(C)]
#[derive(Default)]
struct DedupeRange {
    src_offset: u64,
    src_length: u64,
    dest_count: u16,
    reserved1: u16,
    reserved2: u32,
    dest_fd: i64,
    dest_offset: u64,
    bytes_deduped: u64,
    status: i32,
    reserved: u32,
}

/// `_IOWR(0x94, 54, struct file_dedupe_range)`, without the destinations.
const FIDEDUPERANGE: libc::c_ulong = 0xc018_9436;

/// Lets two files share what is the same in both: false if it differs.
pub fn dedupe(src: &File, dest: &File, offset: u64, len: u64) -> io::Result<bool> {
    let mut range = DedupeRange {
        src_offset: offset,
        src_length: len,
        dest_count: 1,
        dest_fd: dest.as_raw_fd().into(),
        dest_offset: offset,
        ..DedupeRange::default()
    };
    // SAFETY: `range` is what this ioctl reads and writes, with as many destinations as it says.
    check(unsafe { libc::ioctl(src.as_raw_fd(), FIDEDUPERANGE as _, &mut range) })?;
    match range.status {
        status if status < 0 => Err(io::Error::from_raw_os_error(-status)),
        status => Ok(status == 0),
    }
}

/// `struct fsverity_enable_arg` of `<linux/fsverity.h>`.
#[repr(C)]
#[derive(Default)]
struct EnableVerity {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt_ptr: u64,
    sig_size: u32,
    reserved1: u32,
    sig_ptr: u64,
    reserved2: [u64; 11],
}

/// `struct fsverity_read_metadata_arg`.
#[repr(C)]
struct ReadVerity {
    metadata_type: u64,
    offset: u64,
    length: u64,
    buf_ptr: u64,
    reserved: u64,
}

const FS_IOC_ENABLE_VERITY: libc::c_ulong = 0x4080_6685;
const FS_IOC_READ_VERITY_METADATA: libc::c_ulong = 0xc028_6687;

/// Makes a file that nobody has open for writing one that verifies what is read, by SHA-256.
pub fn enable_verity(file: &File) -> io::Result<()> {
    let arg = EnableVerity {
        version: 1,
        hash_algorithm: 1,
        block_size: PAGE as u32,
        ..EnableVerity::default()
    };
    // SAFETY: `arg` is what this ioctl reads.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_ENABLE_VERITY as _, &arg) })
}

/// Reads from the tree of hashes of such a file.
pub fn read_verity_tree(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let arg = ReadVerity {
        metadata_type: 1,
        offset,
        length: buf.len() as u64,
        buf_ptr: buf.as_mut_ptr() as u64,
        reserved: 0,
    };
    // SAFETY: `arg` is what this ioctl reads, and `buf` has room for what it writes.
    let ret = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_READ_VERITY_METADATA as _, &arg) };
    check(ret)?;
    Ok(ret as usize)
}

/// Swaps to a file.
pub fn swap_on(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` is NUL-terminated.
    check(unsafe { libc::swapon(path.as_ptr(), 0) })
}

/// No longer.
pub fn swap_off(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` is NUL-terminated.
    check(unsafe { libc::swapoff(path.as_ptr()) })
}

/// Changes the flags of a mount, `MS_RDONLY` alone or none.
pub fn remount(path: &CStr, read_only: bool) -> io::Result<()> {
    let flags = libc::MS_REMOUNT | if read_only { libc::MS_RDONLY } else { 0 };
    // SAFETY: `path` is NUL-terminated, and the others may be null for a remount.
    check(unsafe {
        libc::mount(
            std::ptr::null(),
            path.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    })
}

/// `struct iocb` of `<linux/aio_abi.h>`, little endian.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    reqprio: i16,
    fildes: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved2: u64,
    flags: u32,
    resfd: u32,
}

/// Asynchronous I/O that is begun, and waited for by [`Aio::wait`].
pub struct Aio(u64);

impl Aio {
    pub fn new() -> io::Result<Self> {
        let mut context = 0u64;
        // SAFETY: `context` is 0 as it has to be, and has room for what is written.
        check(unsafe { libc::syscall(libc::SYS_io_setup, 1, &mut context) } as libc::c_int)?;
        Ok(Self(context))
    }

    /// Begins to write one page, the first of `page`.
    pub fn write(&self, file: &File, page: &Mapping, offset: u64) -> io::Result<()> {
        const IOCB_CMD_PWRITE: u16 = 1;
        let iocb = Iocb {
            opcode: IOCB_CMD_PWRITE,
            fildes: file.as_raw_fd() as u32,
            buf: page.addr() as u64,
            nbytes: PAGE as u64,
            offset: offset as i64,
            ..Iocb::default()
        };
        let list = [&iocb];
        // SAFETY: One `iocb`, which is copied; the kernel holds the pages of the buffer by itself.
        check(
            unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1, list.as_ptr()) } as libc::c_int,
        )
    }

    /// Waits for its end.
    pub fn wait(&self) -> io::Result<()> {
        let mut event = [0i64; 4];
        // SAFETY: `event` has room for the one `struct io_event` that is asked for.
        check(unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.0,
                1,
                1,
                event.as_mut_ptr(),
                std::ptr::null::<libc::timespec>(),
            )
        } as libc::c_int)?;
        match event[2] {
            res if res < 0 => Err(io::Error::from_raw_os_error(-res as i32)),
            _ => Ok(()),
        }
    }
}

/// Writes all of a file system out.
pub fn sync_fs(file: &File) -> io::Result<()> {
    // SAFETY: Takes no pointers.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })
}

/// Opens a symbolic link itself, which keeps its inode in memory.
pub fn open_link(path: &CStr) -> io::Result<File> {
    // SAFETY: `path` is NUL-terminated.
    let fd = unsafe {
        libc::open(
            path.as_ptr(),
            libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC,
        )
    };
    check(fd)?;
    // SAFETY: Fresh from the kernel, and nobody else's.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Makes this process the parent of all that its descendants leave behind.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: This option takes a number and no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
}

/// Kills a process; one that is gone is as good as killed.
pub fn kill(pid: i32) {
    // SAFETY: Takes no pointers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Collects a child that has ended. `false` if none has, an error if there is none.
pub fn reap() -> io::Result<bool> {
    // SAFETY: No status is asked for.
    let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    check(pid)?;
    Ok(pid > 0)
}

/// A pipe, whose reading end does not block.
pub fn pipe() -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: There is room for both.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: Fresh from the kernel, and nobody else's.
    let [read, write] = ends.map(|fd| unsafe { File::from_raw_fd(fd) });
    // SAFETY: Takes no pointers.
    check(unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok((read, write))
}

/// Takes a mount out of the tree, used or not.
pub fn detach(point: &Path) -> io::Result<()> {
    let point = CString::new(point.as_os_str().as_bytes())?;
    // SAFETY: `point` is NUL-terminated.
    check(unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) })
}
