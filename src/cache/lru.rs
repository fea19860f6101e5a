//! LRU cache with the hasher of all caches in this folder.

use std::hash::Hash;
use std::num::NonZeroUsize;

use lru::LruCache;
use rustc_hash::FxBuildHasher;

/// Cache that evicts the least recently used entry. A hasher without a random key is enough: keys are digests or parts of
/// signatures, so that a caller cannot choose keys that collide.
pub(crate) type Lru<K, V> = LruCache<K, V, FxBuildHasher>;

/// Empty cache for at most `max` entries. It allocates as it fills.
pub(crate) fn cache<K: Eq + Hash, V>(max: NonZeroUsize) -> Lru<K, V> {
    let mut cache = LruCache::unbounded_with_hasher(FxBuildHasher);
    cache.resize(max);
    cache
}
