// SPDX-License-Identifier: GPL-2.0

//! The ioctls and the `mmap()` of an open device node.

mod argument;
mod extended;
mod test_hmm;

use crate::{
    client::Client,
    device::Device,
    layer::mm::lock::check_killed,
    migrate,
    nodes,
    uapi, //
};
use argument::run;
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
    sync::Arc, //
};

/// The size in bytes that one `mmap()` may have at most; chosen, since all its pages are allocated at once.
const MMAP_MOST: usize = 16 << 20;

/// An open device node.
#[pin_data(PinnedDrop)]
pub(crate) struct File {
    #[pin]
    client: Client,
}

impl File {
    /// Opens a device for a process.
    pub(crate) fn new(device: Arc<Device>, mm: &MmWithUser) -> Result<Pin<KBox<Self>>> {
        let client = Client::new(device, mm);
        KBox::try_pin_init(
            try_pin_init!(File { client <- client }? Error),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

#[vtable]
impl MiscDevice for File {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &fs::File, misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        let device = nodes::find(misc.device().name()).ok_or(ENODEV)?;
        let task = kernel::current!();
        let mm = task.mm().ok_or(EINVAL)?;
        File::new(device, mm)
    }

    fn ioctl(this: Pin<&Self>, _file: &fs::File, number: u32, arg: usize) -> Result<isize> {
        let client = this.get_ref().client();
        match number {
            uapi::READ..=uapi::READ_UNLOCKED => {
                run::<{ uapi::READ }, _>(arg, |cmd| test_hmm::run(client, number, cmd))
            }
            uapi::MIGRATE => run::<{ uapi::MIGRATE }, _>(arg, |arg| extended::migrate(client, arg)),
            uapi::INJECT => run::<{ uapi::INJECT }, _>(arg, |arg| extended::inject(client, arg)),
            uapi::PAGE => run::<{ uapi::PAGE }, _>(arg, |arg| extended::page(client, arg)),
            uapi::STATS => run::<{ uapi::STATS }, _>(arg, |arg| extended::stats(client, arg)),
            uapi::COPY => run::<{ uapi::COPY }, _>(arg, extended::copy),
            uapi::PAUSE => run::<{ uapi::PAUSE }, _>(arg, |arg| extended::pause(client, arg)),
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
        migrate::close(self.client());
    }
}
