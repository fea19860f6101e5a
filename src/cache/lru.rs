//! LRU cache with the hasher that all caches here use.

use std::hash::Hash;
use std::num::NonZeroUsize;

use lru::LruCache;
use rustc_hash::FxBuildHasher;

/// A cache that gives up first what was not used for longest. A light hash is enough: what is in it is a digest or a piece of
/// a signature, so nobody can choose what collides there.
pub(crate) type Lru<K, V> = LruCache<K, V, FxBuildHasher>;

/// An empty cache for so many, which takes memory as it fills.
pub(crate) fn cache<K: Eq + Hash, V>(most: NonZeroUsize) -> Lru<K, V> {
    let mut cache = LruCache::unbounded_with_hasher(FxBuildHasher);
    cache.resize(most);
    cache
}
