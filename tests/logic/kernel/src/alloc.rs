// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/alloc.rs`: vectors and boxes; a test can make their allocations fail.

use crate::error::{
    Error,
    Result, //
};
use core::{
    cell::RefCell,
    mem::MaybeUninit,
    ops::{
        BitAnd,
        BitOr,
        Deref,
        DerefMut,
        Not, //
    },
    pin::Pin,
};
use pinned_init::{
    Init,
    PinInit, //
};
use std::boxed::Box;

/// What an allocation may do, `gfp_t`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(u32);

impl Flags {
    /// Whether all of these are set.
    pub fn contains(self, flags: Flags) -> bool {
        self & flags == flags
    }
}

impl BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitAnd for Flags {
    type Output = Flags;
    fn bitand(self, other: Flags) -> Flags {
        Flags(self.0 & other.0)
    }
}

impl Not for Flags {
    type Output = Flags;
    fn not(self) -> Flags {
        Flags(!self.0)
    }
}

/// The flags of `include/linux/gfp_types.h` that are used; the bits are not the kernel's.
#[allow(missing_docs)]
pub mod flags {
    use super::Flags;

    pub const __GFP_DIRECT_RECLAIM: Flags = Flags(1 << 0);
    pub const __GFP_KSWAPD_RECLAIM: Flags = Flags(1 << 1);
    pub const __GFP_IO: Flags = Flags(1 << 2);
    pub const __GFP_FS: Flags = Flags(1 << 3);
    pub const __GFP_ACCOUNT: Flags = Flags(1 << 4);
    pub const __GFP_NOWARN: Flags = Flags(1 << 5);
    pub const GFP_KERNEL: Flags = Flags(0b1111);
    pub const GFP_KERNEL_ACCOUNT: Flags = Flags(0b1_1111);
    pub const GFP_NOWAIT: Flags = Flags(1 << 1 | 1 << 5);
}

/// There is no memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AllocError;

/// There is no such element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoveError;

type Judge = Box<dyn FnMut(Flags) -> bool>;

std::thread_local! {
    static JUDGE: RefCell<Option<Judge>> = const { RefCell::new(None) };
}

/// For tests: while this value lives, its function decides which allocations of this thread succeed.
#[must_use = "allocations succeed again when it is dropped"]
pub struct Judged(());

impl Judged {
    /// Lets `allow` decide from now on.
    pub fn by(allow: impl FnMut(Flags) -> bool + 'static) -> Self {
        JUDGE.set(Some(Box::new(allow)));
        Judged(())
    }
}

impl Drop for Judged {
    fn drop(&mut self) {
        JUDGE.set(None);
    }
}

pub(crate) fn allocate(flags: Flags) -> Result<(), AllocError> {
    let is_allowed = JUDGE.with_borrow_mut(|judge| judge.as_mut().is_none_or(|judge| judge(flags)));
    is_allowed.then_some(()).ok_or(AllocError)
}

/// A vector.
#[derive(Debug)]
pub struct KVec<T>(std::vec::Vec<T>);

/// The kernel's are of one type as well, with another allocator.
pub type KVVec<T> = KVec<T>;

impl<T> KVec<T> {
    /// An empty one.
    pub const fn new() -> Self {
        KVec(std::vec::Vec::new())
    }

    /// An empty one that has room.
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        allocate(flags)?;
        Ok(KVec(std::vec::Vec::with_capacity(capacity)))
    }

    /// With as many copies.
    pub fn from_elem(value: T, nr: usize, flags: Flags) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        allocate(flags)?;
        Ok(KVec(std::vec![value; nr]))
    }

    /// Appends an element; allocates if there is no room.
    pub fn push(&mut self, value: T, flags: Flags) -> Result<(), AllocError> {
        if self.0.len() == self.0.capacity() {
            allocate(flags)?;
        }
        self.0.push(value);
        Ok(())
    }

    /// Appends an element if there is room.
    pub fn push_within_capacity(&mut self, value: T) -> Result<(), T> {
        if self.0.len() == self.0.capacity() {
            return Err(value);
        }
        self.0.push(value);
        Ok(())
    }

    /// Removes an element, and moves those behind it; gives nothing where there is none.
    pub fn remove(&mut self, at: usize) -> Result<T, RemoveError> {
        match at < self.0.len() {
            true => Ok(self.0.remove(at)),
            false => Err(RemoveError),
        }
    }

    /// All of it.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<'a, T> IntoIterator for &'a KVec<T> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// A box.
pub struct KBox<T>(Box<T>);

impl<T> KBox<T> {
    /// Moves a value into a new one.
    pub fn new(value: T, flags: Flags) -> Result<Self, AllocError> {
        allocate(flags)?;
        Ok(KBox(Box::new(value)))
    }

    /// Makes a value in a new one.
    pub fn init<E>(init: impl Init<T, E>, flags: Flags) -> Result<Self>
    where
        Error: From<E>,
    {
        allocate(flags)?;
        Ok(KBox(in_place(init)?))
    }

    /// Makes a value in a new one, where it stays.
    pub fn pin_init<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Pin<Self>>
    where
        Error: From<E>,
    {
        allocate(flags)?;
        Ok(KBox(in_place(init)?).into())
    }
}

impl<T> From<KBox<T>> for Pin<KBox<T>> {
    fn from(value: KBox<T>) -> Self {
        // SAFETY: A box does not move its contents, and this type has no method that takes them out.
        unsafe { Pin::new_unchecked(value) }
    }
}

impl<T> Deref for KBox<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Initialises a value in place. The caller must not move it out of the box.
pub(crate) fn in_place<T, E>(init: impl PinInit<T, E>) -> Result<Box<T>>
where
    Error: From<E>,
{
    let mut room: Box<MaybeUninit<T>> = Box::new_uninit();
    // SAFETY: There is room for the value, which stays there.
    unsafe { init.__pinned_init(room.as_mut_ptr())? };
    // SAFETY: It was just made.
    Ok(unsafe { room.assume_init() })
}
