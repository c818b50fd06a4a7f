//! Who acts from which place in Forge Realtime, and which topic that makes.
//!
//! Only what a trusted issuer has signed, or a platform has registered, forms a scope: a caller
//! selects from its context and asserts nothing.

pub mod audience;
mod authorize;
mod channel_token;
mod context;
mod jcs;
mod proof;
mod proxy;
mod sign;
mod topic;

#[cfg(test)]
mod tests;

pub use authorize::{Asked, Denied, Origin, authorize};
pub use channel_token::{ClaimsError, Grant, NewToken, Permission, Signed, Wanted};
pub use context::ContextClaims;
pub use proof::{ForgeAuth, ProofError};
pub use proxy::{As, ProxyAuthorization, ProxyAuthorizationError, Subject};
pub use sign::{NewPlace, NewProof, sign_proof};
pub use topic::{MissingEntity, NoInterface, Reach, Topic};
