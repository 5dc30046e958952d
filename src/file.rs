// SPDX-License-Identifier: GPL-2.0

//! An open device node: the address space of the process that opened it, and the commands.

use crate::{
    access::{
        self,
        MmapLock, //
    },
    clock,
    copies,
    device::{
        owner::Owner,
        Device, //
    },
    inject::{
        Injection,
        Point, //
    },
    layer::{
        mm::{
            lock::{
                check_killed,
                task_size, //
            },
            mirror::Mirror,
            user::UserPages, //
        },
        ratelimit::warn_limited, //
    },
    ledger::Direction,
    migrate::{
        self,
        Report, //
    },
    pause::{
        Armed,
        Directions,
        PausePoint,
        Timeout, //
    },
    range::Pages,
    uapi::{
        self,
        Argument, //
    }, //
};
use kernel::{
    fs,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    mm::{
        virt::VmaNew,
        MmWithUser, //
    },
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// The most that one `mmap()` may ask for: its pages are all allocated at once.
const MMAP_MOST: usize = 16 << 20;

/// An open device node.
#[pin_data(PinnedDrop)]
pub struct File {
    device: Arc<Device>,
    owner: Arc<Owner>,
    #[pin]
    mirror: Mirror,
}

impl File {
    /// Mirrors an address space for a device.
    pub fn new(device: Arc<Device>, mm: &MmWithUser) -> Result<Pin<KBox<Self>>> {
        let id = device.state().pgmap_owner();
        device.state().reserve.fill();
        KBox::try_pin_init(
            try_pin_init!(File {
                owner: Owner::new()?,
                mirror <- Mirror::new(mm, id),
                device,
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What its pages on the device refer to.
    pub fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// The mirror.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// The address space, if its process still lives.
    pub fn mm(&self) -> Result<ARef<MmWithUser>> {
        self.mirror.mm().mmget_not_zero().ok_or(EINVAL)
    }

    /// What is to fail.
    pub fn injection(&self) -> Injection<'_> {
        Injection::new(Some(&self.owner.inject), &self.device.state().inject)
    }

    fn pages(&self, addr: u64, npages: u64) -> Result<Pages> {
        Pages::new(addr, npages, task_size(self.mirror.mm()))
    }

    /// The ten commands of test_hmm.
    fn old(&self, number: u32, cmd: &mut uapi::Command) -> Result {
        // These two have no range.
        match number {
            uapi::FLAGS => return self.owner.inject.set_flags(cmd.npages),
            uapi::RELEASE => return migrate::release(&self.device),
            _ => {}
        }
        let pages = self.pages(cmd.addr, cmd.npages)?;
        let user = UserPages::new(cmd.ptr, pages.count());
        match number {
            uapi::READ => access::read(self, pages, &user?, MmapLock::Kept, cmd),
            uapi::READ_UNLOCKED => access::read(self, pages, &user?, MmapLock::MayBeDropped, cmd),
            uapi::WRITE => access::write(self, pages, &user?, cmd),
            uapi::SNAPSHOT => access::snapshot(self, pages, cmd.ptr, cmd),
            uapi::EXCLUSIVE => access::exclusive(self, pages, &user?, cmd),
            uapi::CHECK_EXCLUSIVE => access::check_exclusive(self, pages),
            uapi::MIGRATE_TO_DEV => {
                migrate::migrate(self, pages, Direction::ToDevice, &mut Report::default())?;
                cmd.cpages = access::read_back(self, pages, &user?)? as u64;
                // The ABI's answer where not all of the range is on the device.
                match cmd.cpages == pages.count() as u64 {
                    true => Ok(()),
                    false => Err(ENOENT),
                }
            }
            uapi::MIGRATE_TO_SYS => {
                let mut report = Report::default();
                let done = migrate::migrate(self, pages, Direction::ToSystem, &mut report);
                cmd.cpages = report.counts.migrated();
                done
            }
            _ => Err(EINVAL),
        }
    }

    fn migrate(&self, arg: &mut uapi::Migrate) -> Result {
        check(arg.version, &arg.reserved)?;
        let direction = match arg.direction {
            uapi::TO_DEVICE => Direction::ToDevice,
            uapi::TO_SYSTEM => Direction::ToSystem,
            _ => return Err(EINVAL),
        };
        let pages = self.pages(arg.addr, arg.npages)?;
        let user = match arg.ptr {
            0 => None,
            ptr => Some(UserPages::new(ptr, pages.count())?),
        };
        let mut report = Report::default();
        let done = migrate::migrate(self, pages, direction, &mut report);
        report.tell(arg);
        done?;
        if let Some(user) = user {
            let begin = clock::now();
            arg.read_back = access::read_back(self, pages, &user)? as u64;
            arg.ns_readback = clock::nanos_since(begin);
        }
        Ok(())
    }

    fn inject(&self, arg: &mut uapi::Inject) -> Result {
        check(arg.version, &arg.reserved)?;
        if arg.point == 0 {
            if arg.times != 0 || arg.skip != 0 {
                return Err(EINVAL);
            }
            self.owner.inject.clear();
            return Ok(());
        }
        let point = Point::from_number(arg.point)?;
        arg.hits = self.owner.inject.arm(point, arg.skip, arg.times);
        Ok(())
    }

    fn pause(&self, arg: &mut uapi::Pause) -> Result {
        check(arg.version, &arg.reserved)?;
        let pause = &self.owner.inject.pause;
        let names_one = arg.stage != 0 || arg.direction != 0 || arg.skip != 0;
        if arg.op != uapi::pause::ARM && names_one {
            return Err(EINVAL);
        }
        let timeout = Timeout::new(arg.ms.into())?;
        let done = match (arg.op, arg.ms) {
            (uapi::pause::ARM, _) => {
                pause.arm(Armed {
                    point: PausePoint::from_number(arg.stage)?,
                    directions: Directions::from_number(arg.direction)?,
                    skip: arg.skip,
                    timeout,
                });
                Ok(())
            }
            (uapi::pause::WAIT, _) => pause.wait(timeout),
            (uapi::pause::RESUME, 0) => {
                pause.resume();
                Ok(())
            }
            (uapi::pause::CLEAR, 0) => {
                pause.clear();
                Ok(())
            }
            (uapi::pause::STATUS, 0) => Ok(()),
            _ => return Err(EINVAL),
        };
        let status = pause.status();
        arg.reached = status.reached;
        arg.waiting = status.waiting;
        done
    }

    fn page(&self, arg: &mut uapi::Page) -> Result {
        check(arg.version, &arg.reserved)?;
        access::page(self, self.pages(arg.addr, 1)?, arg)
    }

    fn stats(&self, arg: &mut uapi::Stats) -> Result {
        check(arg.version, &arg.reserved)?;
        let (chunks, used, total) = self.device.memory.usage();
        let stats = &self.device.state().stats;
        let (checks, mismatches) = self.device.state().ledger.totals();
        *arg = uapi::Stats {
            version: uapi::VERSION,
            chunks: chunks as u32,
            pages_total: total as u64,
            pages_used: used as u64,
            pages_mine: self.device.memory.owned_by(&self.owner)? as u64,
            to_device: stats.to_device.get(),
            to_system: stats.to_system.get(),
            faulted: stats.faulted.get(),
            evicted: stats.evicted.get(),
            split_refused: stats.split_refused.get(),
            retries: stats.retries.get(),
            stuck: stats.stuck.get(),
            ledger_checks: checks,
            ledger_mismatches: mismatches,
            reserved: [0; 4],
        };
        Ok(())
    }
}

/// How long a copy takes: nothing of the file's own is touched.
fn copy(arg: &mut uapi::CopyTime) -> Result {
    check(arg.version, &arg.reserved)?;
    arg.ns = copies::time(arg)?;
    Ok(())
}

fn check(version: u32, reserved: &[u64]) -> Result {
    if version != uapi::VERSION || reserved.iter().any(|word| *word != 0) {
        return Err(EINVAL);
    }
    Ok(())
}

/// Reads the argument, runs the command, and writes the argument back also when that failed: the
/// counts say what was done before.
fn run<T: Argument>(user: usize, command: impl FnOnce(&mut T) -> Result) -> Result<isize> {
    let slice = || UserSlice::new(UserPtr::from_addr(user), size_of::<T>());
    let mut arg = slice().reader().read::<T>()?.asked();
    let done = command(&mut arg);
    slice().writer().write(&arg)?;
    done.map(|()| 0)
}

#[vtable]
impl MiscDevice for File {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &fs::File, misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        let device = crate::find(misc.device().name()).ok_or(ENODEV)?;
        let task = kernel::current!();
        let mm = task.mm().ok_or(EINVAL)?;
        File::new(device, mm)
    }

    fn ioctl(this: Pin<&Self>, _file: &fs::File, number: u32, arg: usize) -> Result<isize> {
        let this = this.get_ref();
        match number {
            uapi::READ..=uapi::READ_UNLOCKED => run(arg, |cmd| this.old(number, cmd)),
            uapi::MIGRATE => run(arg, |arg| this.migrate(arg)),
            uapi::INJECT => run(arg, |arg| this.inject(arg)),
            uapi::PAGE => run(arg, |arg| this.page(arg)),
            uapi::STATS => run(arg, |arg| this.stats(arg)),
            uapi::COPY => run(arg, copy),
            uapi::PAUSE => run(arg, |arg| this.pause(arg)),
            _ => Err(EINVAL),
        }
    }

    fn mmap(_this: Pin<&Self>, _file: &fs::File, vma: &VmaNew) -> Result {
        if vma.end() - vma.start() > MMAP_MOST {
            return Err(ENOMEM);
        }
        let area = vma.set_mixedmap();
        for address in (vma.start()..vma.end()).step_by(PAGE_SIZE) {
            check_killed()?;
            let page = Page::alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO)?;
            area.vm_insert_page(address, &page)?;
        }
        Ok(())
    }
}

#[pinned_drop]
impl PinnedDrop for File {
    fn drop(self: Pin<&mut Self>) {
        // Nobody could resume what it stops any more. A CPU fault may be stopped now, and hold its page.
        self.owner.inject.pause.clear();
        if !self.owner.has_used() {
            return;
        }
        // Its own pages only: nobody else's business is touched by a close (T14).
        if let Err(error) = migrate::evict(&self.device, Some(&self.owner)) {
            warn_limited!(
                "hmm_dmirror{}: pages stay on the device after close: {:?}\n",
                self.device.state().id(),
                error
            );
        }
        self.device.memory.trim();
        // What this file was to see fail ends with it, also for pages that could not leave.
        self.owner.inject.clear();
    }
}
