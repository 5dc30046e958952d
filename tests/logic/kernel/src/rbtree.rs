// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/rbtree.rs`, by the standard library's map.

use crate::alloc::{
    allocate,
    AllocError,
    Flags, //
};
use core::{
    marker::PhantomData,
    ops::Bound::{
        Excluded,
        Unbounded, //
    }, //
};
use std::collections::BTreeMap;

/// A map, in order.
pub struct RBTree<K, V>(BTreeMap<K, V>);

/// Memory for a node.
pub struct RBTreeNodeReservation<K, V>(PhantomData<(K, V)>);

/// A node that is in no tree.
pub struct RBTreeNode<K, V>(K, V);

impl<K, V> RBTreeNodeReservation<K, V> {
    /// Allocates.
    pub fn new(flags: Flags) -> Result<Self, AllocError> {
        allocate(flags)?;
        Ok(RBTreeNodeReservation(PhantomData))
    }

    /// Makes a node of it.
    pub fn into_node(self, key: K, value: V) -> RBTreeNode<K, V> {
        RBTreeNode(key, value)
    }
}

impl<K: Ord + Copy, V> RBTree<K, V> {
    /// An empty one.
    pub const fn new() -> Self {
        RBTree(BTreeMap::new())
    }

    /// Inserts a node, and gives the one that had its key.
    pub fn insert(&mut self, node: RBTreeNode<K, V>) -> Option<RBTreeNode<K, V>> {
        let RBTreeNode(key, value) = node;
        Some(RBTreeNode(key, self.0.insert(key, value)?))
    }

    /// What has a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    /// What has a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    /// Removes the entry with a key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }

    /// Where the first key is that is not less.
    pub fn cursor_lower_bound_mut(&mut self, key: &K) -> Option<CursorMut<'_, K, V>> {
        let (at, _) = self.0.range(*key..).next()?;
        Some(CursorMut {
            at: *at,
            tree: self,
        })
    }

    fn after(&self, key: &K) -> Option<K> {
        let mut rest = self.0.range((Excluded(key), Unbounded));
        rest.next().map(|(key, _)| *key)
    }
}

/// A place in a tree.
pub struct CursorMut<'a, K, V> {
    at: K,
    tree: &'a mut RBTree<K, V>,
}

impl<K: Ord + Copy, V> CursorMut<'_, K, V> {
    /// The node there.
    pub fn current_mut(&mut self) -> (&K, &mut V) {
        let value = self.tree.0.get_mut(&self.at);
        (&self.at, value.expect("a cursor is at a node"))
    }

    /// The next one.
    pub fn move_next(self) -> Option<Self> {
        let at = self.tree.after(&self.at)?;
        Some(CursorMut { at, ..self })
    }

    /// Removes the node, and goes to the next one, or to the last if there is none.
    pub fn remove_current(self) -> (Option<Self>, RBTreeNode<K, V>) {
        let CursorMut { at, tree } = self;
        let value = tree.0.remove(&at).expect("a cursor is at a node");
        let last = || tree.0.last_key_value().map(|(key, _)| *key);
        let cursor = tree.after(&at).or_else(last);
        (
            cursor.map(|at| CursorMut { at, tree }),
            RBTreeNode(at, value),
        )
    }
}
