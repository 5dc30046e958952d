// SPDX-License-Identifier: GPL-2.0

//! A QEMU TCG plugin that records which instructions of the guest's kernel were executed.
//!
//! QEMU translates a block of instructions when it is about to run it for the first time. The plugin records the
//! block then, which does not slow down its execution. A block ends at each jump, call or return, and at
//! each instruction that always traps. If an instruction in the middle of a block faults, those behind it are
//! recorded although they did not run. In the kernel, only instructions with an entry in `__ex_table` may fault.
//!
//! `-plugin FILE.so,out=FILE`: the addresses go to that file when QEMU ends, also by SIGTERM.
//!
//! C header: `qemu-plugin.h`. No package ships it; the functions below are the same in all versions of the
//! interface from 2 on.

mod pages;

use pages::Pages;
use std::{
    ffi::{c_char, c_int, c_void, CStr, OsStr},
    fs::File,
    io::{BufWriter, Write},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::Mutex,
};

/// Where the kernel and its modules are. What is below is user space, or data.
const KERNEL: u64 = 0xffff_ffff_8000_0000;

/// The version of the interface that is asked for. QEMU 9.0 to 10.0 have 2 to 4.
#[no_mangle]
#[allow(non_upper_case_globals)] // QEMU looks for it by this name
pub static qemu_plugin_version: c_int = 2;

type Id = u64;

#[repr(C)]
pub struct Block {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct Instruction {
    _opaque: [u8; 0],
}

extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(
        id: Id,
        callback: unsafe extern "C" fn(Id, *mut Block),
    );
    fn qemu_plugin_register_atexit_cb(
        id: Id,
        callback: extern "C" fn(Id, *mut c_void),
        data: *mut c_void,
    );
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
}

static EXECUTED: Mutex<Pages> = Mutex::new(Pages::new());
static OUT: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Called by each virtual CPU, for each block that it translates.
///
/// # Safety
///
/// `block` is what QEMU calls this for.
unsafe extern "C" fn translated(_id: Id, block: *mut Block) {
    // SAFETY: The block is valid while this runs.
    let count = unsafe { qemu_plugin_tb_n_insns(block) };
    // A thread that panicked while it held the lock aborted QEMU.
    let Ok(mut executed) = EXECUTED.lock() else {
        return;
    };
    for index in 0..count {
        // SAFETY: As above; `index` is below the number of its instructions, which live as long as it.
        let address = unsafe { qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(block, index)) };
        if address >= KERNEL {
            executed.insert(address);
        }
    }
}

fn write() -> std::io::Result<()> {
    let (Ok(executed), Ok(out)) = (EXECUTED.lock(), OUT.lock()) else {
        return Ok(());
    };
    let Some(out) = out.as_ref() else {
        return Ok(());
    };
    let mut file = BufWriter::new(File::create(out)?);
    executed.write(&mut file)?;
    file.flush()
}

extern "C" fn at_exit(_id: Id, _data: *mut c_void) {
    if let Err(error) = write() {
        // The report misses the file, and fails.
        eprintln!("coverage plugin: the addresses could not be written: {error}");
    }
}

/// What QEMU calls first.
///
/// # Safety
///
/// `argv` has `argc` strings.
#[no_mangle]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    _info: *const c_void,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    for index in 0..usize::try_from(argc).unwrap_or(0) {
        // SAFETY: QEMU passes that many strings.
        let argument = unsafe { CStr::from_ptr(*argv.add(index)) }.to_bytes();
        match argument.strip_prefix(b"out=") {
            Some(path) => *OUT.lock().unwrap() = Some(PathBuf::from(OsStr::from_bytes(path))),
            None => {
                eprintln!(
                    "coverage plugin: what is '{}'? It takes out=FILE",
                    argument.escape_ascii()
                );
                return -1;
            }
        }
    }
    if OUT.lock().unwrap().is_none() {
        eprintln!("coverage plugin: out=FILE is missing");
        return -1;
    }
    // SAFETY: The callbacks have the types that the interface asks for, and no data.
    unsafe {
        qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
        qemu_plugin_register_atexit_cb(id, at_exit, std::ptr::null_mut());
    }
    0
}
