//! Resolves names, and leaves out addresses that may not be called.
//!
//! Connections go to the addresses that were checked here and to no others, so that a name cannot
//! show one address when it is checked and another when it is connected to.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::sync::watch;

use crate::message::webhook_url::{Refusal, is_public};

/// Looks up names, with at most one lookup under way for each. The system's resolver cannot be told
/// to give up, so calls to a name whose servers do not answer would otherwise occupy every lookup
/// thread.
pub(super) struct Resolver {
    allow_private: bool,
    under_way: Arc<UnderWay>,
}

/// The error of a name that could not be looked up.
#[derive(Clone, Copy, Debug, Error)]
#[error("the name has no address")]
struct NoAddress;

/// The result of a lookup: all addresses of a name, public or not.
type Answer = Result<Arc<[IpAddr]>, NoAddress>;

/// The lookups under way, by name; calls wait for the result on a receiver's clone.
#[derive(Default)]
struct UnderWay(Mutex<HashMap<Box<str>, watch::Receiver<Option<Answer>>>>);

impl Resolver {
    /// Creates a resolver that leaves out addresses that are not public, unless they are allowed.
    pub(super) fn new(allow_private: bool) -> Self {
        Self { allow_private, under_way: Arc::default() }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (under_way, allow_private) = (self.under_way.clone(), self.allow_private);
        Box::pin(async move {
            let found = under_way.look_up(name.as_str()).await?;
            let allowed = found.iter().filter(|address| allow_private || is_public(**address));
            // The client takes the port from the URL.
            let allowed: Vec<_> = allowed.map(|address| SocketAddr::new(*address, 0)).collect();
            if allowed.is_empty() {
                return Err(Refusal::Address.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

impl UnderWay {
    async fn look_up(self: &Arc<Self>, name: &str) -> Answer {
        let mut answer = self.join(name);
        match answer.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(answer)) => answer.clone(),
            // A lookup ends without a result only if the runtime ends.
            _ => Err(NoAddress),
        }
    }

    /// Joins the lookup of this name, or starts one. A lookup goes on even if no call waits any
    /// more, and a repeated call finds it.
    fn join(self: &Arc<Self>, name: &str) -> watch::Receiver<Option<Answer>> {
        let mut names = self.names();
        if let Some(answer) = names.get(name) {
            return answer.clone();
        }
        let (told, answer) = watch::channel(None);
        names.insert(name.into(), answer.clone());
        let (under_way, name) = (self.clone(), Box::<str>::from(name));
        tokio::spawn(async move {
            let found = addresses(&name).await;
            under_way.names().remove(&name);
            told.send_replace(Some(found));
        });
        answer
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Box<str>, watch::Receiver<Option<Answer>>>> {
        // Nothing that panics runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn addresses(name: &str) -> Answer {
    let found: Arc<[IpAddr]> = match lookup_host((name, 0)).await {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(_) => return Err(NoAddress),
    };
    if found.is_empty() { Err(NoAddress) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    fn resolve(resolver: &Resolver, name: &str) -> Result<Vec<IpAddr>, String> {
        let resolving = resolver.resolve(name.parse().unwrap());
        let found = block_on(resolving).map_err(|error| error.to_string())?;
        Ok(found.map(|address| address.ip()).collect())
    }

    #[test]
    fn a_name_of_this_machine_is_refused_unless_it_is_allowed() {
        let refused = resolve(&Resolver::new(false), "localhost");
        assert_eq!(refused, Err(Refusal::Address.to_string()));
        let found = resolve(&Resolver::new(true), "localhost").unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    #[test]
    fn a_name_without_an_address_is_not_refused_for_good() {
        // Too long for a label, so the system refuses it without a query.
        let failed = resolve(&Resolver::new(false), &"x".repeat(64));
        assert_eq!(failed, Err(NoAddress.to_string()));
    }

    #[test]
    fn who_asks_for_a_name_that_is_looked_up_waits_for_that_answer() {
        block_on(async {
            let under_way = Arc::new(UnderWay::default());
            let first = under_way.join("localhost");
            let second = under_way.join("localhost");
            assert!(first.same_channel(&second));
            let found = under_way.look_up("localhost").await.unwrap();
            assert!(second.borrow().is_some() && !found.is_empty());
            assert!(under_way.names().is_empty(), "what was answered is asked again");
        });
    }
}
