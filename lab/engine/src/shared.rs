//! Work that several cases need and that is done once: by key, others wait for the one that does it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell};

/// A value that is made, or why it could not be.
type Cell<V, E> = Arc<OnceCell<Result<Arc<V>, Arc<E>>>>;

/// Values by key, each made once; a failure is kept too, so that ten cases do not download ten times what is not there.
pub struct Shared<K, V, E> {
    cells: Mutex<HashMap<K, Cell<V, E>>>,
}

impl<K: Hash + Eq + Clone, V, E> Default for Shared<K, V, E> {
    fn default() -> Self {
        Shared { cells: Mutex::new(HashMap::new()) }
    }
}

impl<K: Hash + Eq + Clone, V, E> Shared<K, V, E> {
    /// The value for `key`, made by `make` if nobody has.
    pub async fn get<F>(&self, key: K, make: impl FnOnce() -> F) -> Result<Arc<V>, Arc<E>>
    where
        F: Future<Output = Result<V, E>>,
    {
        let cell = self.cells.lock().await.entry(key).or_default().clone();
        cell.get_or_init(|| async { make().await.map(Arc::new).map_err(Arc::new) }).await.clone()
    }
}
